-- The operations of RedisStore. A call runs one operation, atomically, by the server's clock.
--
--   KEYS[1] {token-proxy}:meta  hash: version of this layout, identity, changed (number of the last put);
--                               run, era, pulse and lost (see `wake`)
--   …:record:KEY  hash: one record; an unknown time is an empty string
--   …:keys        sorted set of all KEYs in lexical order; KEY is credential, NUL, account
--   …:due:NAME    sorted set of a credential's KEYs in state "valid" with a due time, by that time
--   …:changed     sorted set of all KEYs, by the number of their last put
--   …:quarantine:TIME:KEY  hash: an unreadable record that was set aside
--   …:leases      hash: name -> "ENDS LENGTH OWNER", both in ms
--   …:stash:NAME  string that expires
--   …:news        channel: notifications of puts
--
-- ARGV: the operation, then its arguments. Arguments are checked before the first write, and a put starts
-- with a write that is refused while memory or disk is full, so that it is done completely or not at all.

local VERSION = '1'  -- a migration must keep a copy of each record: …:backup:1:KEY
local STANDSTILL = 1500  -- ms without a pulse; every user of the store sends two a second
local HOME = string.match(KEYS[1], '^{.*}:')
local META, ALL = KEYS[1], HOME .. 'keys'
local CHANGED, LEASES, NEWS = HOME .. 'changed', HOME .. 'leases', HOME .. 'news'

local call = redis.call
local operations = {}

local function number(text)
  local value = tonumber(text)
  assert(value and value == value, 'not a number')
  return value
end

local function is_time(text)
  return text == '' or number(text)
end

local function record(key)
  return HOME .. 'record:' .. key
end

-- Records ---------------------------------------------------------------------------------------------

local FIELDS = {'generation', 'state', 'due_at', 'expires_at', 'body', 'intent', 'used_at'}

local function read(key)
  return call('HMGET', record(key), unpack(FIELDS))
end

local function later(one, other)
  if one == '' or (other ~= '' and number(other) > number(one)) then
    return other
  end
  return one
end

local function due_of(key)
  return HOME .. 'due:' .. string.match(key, '^%Z*')
end

local function index_due(key, state, due_at)
  if state == 'valid' and due_at ~= '' then
    call('ZADD', due_of(key), due_at, key)
  else
    call('ZREM', due_of(key), key)
  end
end

local function keys_after(after, limit)
  return call('ZRANGEBYLEX', ALL, after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit)
end

function operations.get(key)
  return read(key)
end

function operations.put(key, expected, generation, state, due_at, expires_at, body, used_at)
  assert(number(generation) > number(expected) and is_time(due_at) and is_time(expires_at) and is_time(used_at))
  local held, held_use = unpack(call('HMGET', record(key), 'generation', 'used_at'))
  if (held or '0') ~= expected then
    return 0
  end
  redis.pcall('PUBLISH', NEWS, '')  -- sent after this script; pcall, as polling makes up for a missing right
  local changed = call('HINCRBY', META, 'changed', 1)
  call('HSET', record(key), 'generation', generation, 'state', state, 'due_at', due_at,
    'expires_at', expires_at, 'body', body, 'used_at', later(used_at, held_use or ''))
  call('HDEL', record(key), 'intent')
  call('ZADD', ALL, 0, key)
  call('ZADD', CHANGED, changed, key)
  index_due(key, state, due_at)
  return 1
end

function operations.intend(key, generation, intent)
  if call('HGET', record(key), 'generation') ~= generation then
    return 0
  end
  call('HSET', record(key), 'intent', intent)
  return 1
end

function operations.postpone(key, generation, due_at)
  assert(is_time(due_at))
  local held, state = unpack(call('HMGET', record(key), 'generation', 'state'))
  if held == generation then
    call('HSET', record(key), 'due_at', due_at)
    index_due(key, state, due_at)
  end
end

function operations.touch(...)
  local used = {...}
  for i = 2, #used, 2 do
    number(used[i])
  end
  for i = 1, #used, 2 do
    local held = call('HGET', record(used[i]), 'used_at')
    if held then
      call('HSET', record(used[i]), 'used_at', later(used[i + 1], held))
    end
  end
end

function operations.quarantine(key)
  local generation = call('HGET', record(key), 'generation')
  if call('EXISTS', record(key)) == 1 then
    call('RENAME', record(key), HOME .. 'quarantine:' .. call('TIME')[1] .. ':' .. key)
  end
  call('ZREM', ALL, key)
  call('ZREM', CHANGED, key)
  call('ZREM', due_of(key), key)
  return generation or '0'
end

-- At most `limit` accounts of each credential.
function operations.due(before, limit, ...)
  local due = {}
  for _, credential in ipairs({...}) do
    local index = HOME .. 'due:' .. credential
    local found = call('ZRANGEBYSCORE', index, '-inf', '(' .. before, 'WITHSCORES', 'LIMIT', 0, limit)
    for i = 1, #found, 2 do
      local used_at = call('HGET', record(found[i]), 'used_at')
      if used_at then
        due[#due + 1] = {found[i + 1], found[i], used_at}
      else
        call('ZREM', index, found[i])  -- the server has evicted the record
      end
    end
  end
  return due
end

function operations.page(after, limit)
  local page = {}
  for _, key in ipairs(keys_after(after, limit)) do
    page[#page + 1] = {key, unpack(read(key))}
  end
  return page
end

function operations.outlines(after, limit)
  local page = {}
  for _, key in ipairs(keys_after(after, limit)) do
    page[#page + 1] = {key, unpack(call('HMGET', record(key), 'state', 'due_at', 'expires_at'))}
  end
  return page
end

function operations.get_many(...)
  local found = {}
  for _, key in ipairs({...}) do
    found[#found + 1] = {key, unpack(read(key))}
  end
  return found
end

-- Counts the states of the next `limit` records; also returns the last key of these, if there may be more.
function operations.counts(now, after, limit)
  now = number(now)
  local keys, counts, rows = keys_after(after, limit), {}, {}
  for _, key in ipairs(keys) do
    local state, due_at, expires_at = unpack(call('HMGET', record(key), 'state', 'due_at', 'expires_at'))
    if state == 'valid' and expires_at ~= '' and number(expires_at) <= now then
      state = 'expired'
    elseif state == 'valid' and due_at ~= '' and number(due_at) <= now then
      state = 'stale'
    end
    if state then
      local kind = string.match(key, '^%Z*') .. '\0' .. state
      counts[kind] = (counts[kind] or 0) + 1
    end
  end
  for kind, count in pairs(counts) do
    rows[#rows + 1] = {kind, count}
  end
  return {#keys == number(limit) and keys[#keys] or '', rows}
end

-- Stashes ---------------------------------------------------------------------------------------------

function operations.stash(name, value, milliseconds)
  call('SET', HOME .. 'stash:' .. name, value, 'PX', milliseconds)
end

function operations.take(name)
  local value = call('GET', HOME .. 'stash:' .. name)
  call('DEL', HOME .. 'stash:' .. name)
  return value
end

-- Leases ----------------------------------------------------------------------------------------------

local function read_lease(name, text)
  text = text or call('HGET', LEASES, name)
  if not text then
    return nil
  end
  local ends, length, owner = string.match(text, '^(%d+) (%d+) (.*)$')
  return {name = name, ends = number(ends), length = number(length), owner = owner}
end

local function write_lease(name, ends, length, owner)
  call('HSET', LEASES, name, string.format('%.0f %.0f ', ends, length) .. owner)
end

local function all_leases()
  local found, leases = call('HGETALL', LEASES), {}
  for i = 1, #found, 2 do
    leases[#leases + 1] = read_lease(found[i], found[i + 1])
  end
  return leases
end

-- Detects an interruption since the last pulse. If the server was emptied or restarted, or is another one,
-- leases may be lost: a new era starts with a quiet time. If it was suspended, or its clock was set, it has
-- all its leases, but their holders could not renew them: each starts again, and a quiet time is prolonged.
-- Returns the time, and the time when leases were lost.
local function wake()
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local run = string.match(call('INFO', 'server'), 'run_id:(%x+)') or ''
  local known, pulse, lost = unpack(call('HMGET', META, 'run', 'pulse', 'lost'))
  if known ~= run then
    lost = now
    call('HSET', META, 'run', run, 'lost', lost, 'era', string.format('%s %.0f', run, lost))
    for _, lease in ipairs(all_leases()) do
      if lease.owner == '' then
        call('HDEL', LEASES, lease.name)  -- a later holder may be lost
      end
    end
  elseif math.abs(now - number(pulse)) > STANDSTILL then
    lost = number(lost) + now - number(pulse)
    call('HSET', META, 'lost', lost)
    for _, lease in ipairs(all_leases()) do
      if lease.ends > number(pulse) then
        write_lease(lease.name, now + lease.length, lease.length, lease.owner)
      else
        call('HDEL', LEASES, lease.name)
      end
    end
  end
  call('HSET', META, 'pulse', now)
  return now, number(lost)
end

-- In quiet time (one length of a lease after a loss) only leases known to be released are granted.
function operations.lease(name, owner, length, succeed)
  length = number(length)
  local now, lost = wake()
  local held = read_lease(name)
  if not held or held.owner ~= owner then
    if now - lost < length then
      if not held then
        return 'quiet'
      elseif held.owner ~= '' then
        return held.owner
      end
    elseif held and held.ends > now and held.owner ~= succeed then
      return held.owner
    end
  end
  write_lease(name, now + length, length, owner)
  return false
end

-- In quiet time the first renewal wins: the holder that the server remembers may be an old one.
function operations.renew(name, owner, length)
  length = number(length)
  local now, lost = wake()
  local held = read_lease(name)
  if held and held.owner ~= owner and held.ends > now then
    local has_renewed = held.ends - held.length >= lost
    if has_renewed or now - lost >= length then
      return 0
    end
  end
  write_lease(name, now + length, length, owner)
  return 1
end

-- In quiet time the lease is kept without an owner, which marks it as released.
function operations.release(name, owner)
  local now, lost = wake()
  local held = read_lease(name)
  if held and held.owner == owner then
    if now - lost < held.length then
      write_lease(name, 0, held.length, '')
    else
      call('HDEL', LEASES, name)
    end
  end
end

-- Changes ---------------------------------------------------------------------------------------------

-- Returns the puts after number `seen`, and sends a pulse. An emptied store gets the identity that its users
-- remember; if they differ, that of a user that knows an earlier `era`.
function operations.look(identity, era, seen, limit)
  number(seen)
  local now, lost = wake()
  for _, lease in ipairs(all_leases()) do
    if lease.ends <= now and now - lost >= lease.length then
      call('HDEL', LEASES, lease.name)  -- its holder is dead
    end
  end
  local stored, changed, here = unpack(call('HMGET', META, 'identity', 'changed', 'era'))
  if not stored or (era ~= '' and era ~= here) then
    call('HSET', META, 'version', VERSION, 'identity', identity)
    stored = identity
  end
  local news = call('ZRANGEBYSCORE', CHANGED, '(' .. seen, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
  return {stored, here, changed or '0', news}
end

local version = call('HGET', META, 'version')
if version and version ~= VERSION then
  return redis.error_reply('VERSION ' .. version)
end
return operations[ARGV[1]](unpack(ARGV, 2))
