/* Many callers at once: load at the highest rate, with the first second and the steady state apart.
 *
 * Run: crowd PORT CALLERS PATH FIRST PAUSE STEADY   (seconds; the three parts follow each other)
 *
 * It prints MARK at the start, at the end of the first part, and at the start and end of the last part; then one
 * line of JSON. A latency runs from the start of connecting, or from the sending of a request on an open
 * connection; a caller that still waits at the end of a part counts with the time that it has waited by then.
 *
 * wrk has one figure for the whole run, and Python can't drive thousands of callers: hence C.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, ROOM = 8192, EVENTS = 512 };

struct caller {
   int fd;
   double since; /* of the request in flight, in seconds */
   size_t got;   /* bytes of its response so far */
   char response[ROOM];
};

struct part {
   float *seconds;
   size_t count, room;
};

static struct {
   long bad_status, broken, read, write, connect;
} faults;
static struct sockaddr_in address;
static const char *path;
static struct caller *callers;
static struct part first, steady, *part;
static int poller;

static double now(void) {
   struct timespec time;
   clock_gettime(CLOCK_MONOTONIC, &time);
   return time.tv_sec + time.tv_nsec / 1e9;
}

static uint64_t any(void) {
   static uint64_t state;
   if (!state) state = (uint64_t)(now() * 1e9) | 1;
   state ^= state << 13, state ^= state >> 7, state ^= state << 17;
   return state;
}

static void *owned(void *memory) {
   if (!memory) perror("crowd: memory"), exit(2);
   return memory;
}

static void note(double seconds) {
   if (!part) return;
   if (part->count == part->room) {
      part->room = part->room ? part->room * 2 : 65536;
      part->seconds = owned(realloc(part->seconds, part->room * sizeof *part->seconds));
   }
   part->seconds[part->count++] = (float)seconds;
}

/* The same fields as those of heads.lua. */
static void ask(struct caller *caller) {
   char request[1024];
   unsigned long long a = any(), b = any(), c = any(), d = any(), e = any(), number = any() >> 33;
   int length = snprintf(
      request, sizeof request,
      "GET %s/items/%llu?page=%llu&cursor=%08llx HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
      "User-Agent: python-httpx/0.28.1\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\n"
      "Content-Type: application/json\r\ntraceparent: 00-%016llx%016llx-%016llx-01\r\n"
      "X-Request-Id: %016llx%016llx\r\nX-Client-Version: 4.2.0\r\nAuthorization: Bearer a-placeholder\r\n\r\n",
      path, number, number % 1000, number, ntohs(address.sin_port), a, b, c, d, e);
   caller->got = 0;
   if (write(caller->fd, request, length) != length) faults.write++;
}

static void join(struct caller *caller) {
   struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = caller};
   int on = 1;
   caller->since = now();
   caller->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
   if (caller->fd < 0) perror("crowd: socket"), exit(2);
   setsockopt(caller->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
   if (connect(caller->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) faults.connect++;
   epoll_ctl(poller, EPOLL_CTL_ADD, caller->fd, &event);
}

static void rejoin(struct caller *caller, long *fault) {
   ++*fault;
   close(caller->fd);
   join(caller);
}

/* The length of the whole response; 0: not known yet; -1: not a response that we understand. */
static long expected(struct caller *caller) {
   caller->response[caller->got] = 0;
   char *end = strstr(caller->response, "\r\n\r\n");
   if (!end) return caller->got < ROOM - 1 ? 0 : -1;
   char *field = strcasestr(caller->response, "\r\ncontent-length:");
   if (!field || field > end) return -1;
   return end + 4 - caller->response + strtol(field + 17, NULL, 10);
}

static void hear(struct caller *caller) {
   ssize_t count = read(caller->fd, caller->response + caller->got, ROOM - 1 - caller->got);
   if (count < 0 && errno == EAGAIN) return;
   if (count <= 0) {
      rejoin(caller, &faults.read);
      return;
   }
   caller->got += count;
   long length = expected(caller);
   if (length < 0 || (length && (long)caller->got > length)) {
      rejoin(caller, &faults.broken);
   } else if (length && (long)caller->got == length) {
      double end = now();
      if (strncmp(caller->response, "HTTP/1.1 200", 12)) faults.bad_status++;
      note(end - caller->since);
      caller->since = end;
      ask(caller);
   }
}

static void turn(const struct epoll_event *event) {
   struct caller *caller = event->data.ptr;
   if (event->events & EPOLLOUT) { /* connected: from now on it only listens */
      struct epoll_event only = {.events = EPOLLIN, .data.ptr = caller};
      epoll_ctl(poller, EPOLL_CTL_MOD, caller->fd, &only);
      if (event->events & (EPOLLERR | EPOLLHUP))
         rejoin(caller, &faults.connect);
      else
         ask(caller);
   } else {
      hear(caller);
   }
}

static void run(double until, int count, int *joined) {
   struct epoll_event events[EVENTS];
   while (now() < until) {
      int end = *joined + BATCH < count ? *joined + BATCH : count;
      for (; *joined < end; ++*joined) join(&callers[*joined]);
      int ready = epoll_wait(poller, events, EVENTS, *joined < count ? 0 : 10);
      for (int n = 0; n < ready; n++) turn(&events[n]);
   }
}

static void mark(void) {
   puts("MARK");
   fflush(stdout);
}

static int by_size(const void *left, const void *right) {
   float a = *(const float *)left, b = *(const float *)right;
   return (a > b) - (a < b);
}

/* Answered requests, and percentiles that include what is not answered yet. */
static void report(const char *name, struct part *of, size_t answered) {
   if (!of->count) owned(NULL);
   qsort(of->seconds, of->count, sizeof *of->seconds, by_size);
   printf("\"%s_requests\":%zu,\"%s_p50_ms\":%.3f,\"%s_p99_ms\":%.3f,", name, answered, name,
          of->seconds[of->count / 2] * 1e3, name, of->seconds[of->count * 99 / 100] * 1e3);
}

static size_t close_part(int joined) {
   size_t answered = part->count;
   double end = now();
   for (int n = 0; n < joined; n++) note(end - callers[n].since);
   part = NULL;
   mark();
   return answered;
}

int main(int count, char **words) {
   if (count != 7) return fputs("expected PORT CALLERS PATH FIRST PAUSE STEADY\n", stderr), 2;
   int wanted = atoi(words[2]), joined = 0;
   address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
   address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
   path = words[3];
   signal(SIGPIPE, SIG_IGN);
   callers = owned(calloc(wanted, sizeof *callers));
   poller = epoll_create1(0);
   mark();
   double began = now(), at = began + atof(words[4]);
   part = &first;
   run(at, wanted, &joined);
   size_t early = close_part(joined);
   run(at += atof(words[5]), wanted, &joined);
   mark();
   part = &steady;
   run(at += atof(words[6]), wanted, &joined);
   size_t late = close_part(joined);
   printf("{");
   report("first", &first, early);
   report("steady", &steady, late);
   printf("\"errors\":{\"bad_status\":%ld,\"broken\":%ld,\"read\":%ld,\"write\":%ld,\"connect\":%ld}}\n",
          faults.bad_status, faults.broken, faults.read, faults.write, faults.connect);
   return 0;
}
