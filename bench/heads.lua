-- Requests as they are in life: each with its own path and its own ids. Argument: one more field, or none.
local field, number = nil, 0

function init(args)
   field = args[1]
end

function request()
   number = number + 1
   local head = {
      string.format("GET %s?page=%d HTTP/1.1", wrk.path, number),
      "Host: " .. wrk.host .. ":" .. wrk.port,
      "User-Agent: python-httpx/0.28.1",
      "Accept: application/json",
      "Accept-Encoding: gzip, deflate, br",
      "Content-Type: application/json",
      string.format("traceparent: 00-%032x-%016x-01", number * 7919, number),
      string.format("X-Request-Id: %032x", number * 104729),
      "X-Client-Version: 4.2.0",
   }
   if field and field ~= "" then
      head[#head + 1] = field
   end
   return table.concat(head, "\r\n") .. "\r\n\r\n"
end
