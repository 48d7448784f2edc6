-- Requests as they are in life: each with its own target, trace id and request id; nine fields.
-- Arguments, each optional: field=LINE (instead of the ninth field; empty: none), body=BYTES (a POST with so much
-- JSON), close (the caller asks to close the connection after the response).
local number, field, close, post = 0, "Authorization: Bearer a-placeholder", "", nil

local function json(size)
   local text = '{"items":['
   for n = 1, size do
      local item = string.format('{"id":%d,"name":"item %d","active":true},', n, n)
      if #text + #item > size - 20 then break end
      text = text .. item
   end
   text = text .. '{}],"note":"'
   return text .. string.rep("x", size - #text - 2) .. '"}'
end

function init(args)
   math.randomseed(os.time() + math.floor(os.clock() * 1e6))
   number = math.random(1, 2 ^ 30)  -- no two runs send the same requests
   for _, argument in ipairs(args) do
      local name, value = argument:match("^(%w+)=?(.*)$")
      if name == "field" then field = value end
      if name == "body" then post = json(tonumber(value)) end
      if name == "close" then close = "\r\nConnection: close" end
   end
end

local function hex(words)
   local text = ""
   for _ = 1, words do
      text = text .. string.format("%08x", math.random(0, 2 ^ 31 - 1))
   end
   return text
end

function request()
   number = number + 1
   local head = string.format(
      "%s %s/items/%d?page=%d&cursor=%s HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: python-httpx/0.28.1\r\n" ..
      "Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nContent-Type: application/json\r\n" ..
      "traceparent: 00-%s-%s-01\r\nX-Request-Id: %s\r\nX-Client-Version: 4.2.0",
      post and "POST" or "GET", wrk.path, number, number % 1000, hex(1), wrk.host, wrk.port, hex(4), hex(2), hex(4))
   if field ~= "" then head = head .. "\r\n" .. field end
   if post then
      return head .. string.format("\r\nContent-Length: %d%s\r\n\r\n", #post, close) .. post
   end
   return head .. close .. "\r\n\r\n"
end
