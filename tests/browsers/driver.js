// Opens the pages that the test wants opened.
(async () => {
  for (;;) {
    const url = await (await fetch("/next")).json();
    window.open(url, `d${Math.random()}`, "popup,width=600,height=600");
  }
})();
