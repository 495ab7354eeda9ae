-- The load of the demo, for wrk: a mix of requests of which about 1 % trap, and exact book-keeping of the answers.
--
-- Every request carries an X-Request-ID, which the server sends back. A request is good if exactly one answer came, with the
-- status and the body that this request must have. wrk itself does not notice an answer to the wrong request, an answer
-- that never comes, or a connection that the server closes without one; the table of pending requests does.
--
-- Environment: DEMO_SECONDS (no request is begun after that; give wrk a few seconds more, so that all can be answered),
-- DEMO_TRAPS_PER_MILLE (default 10), DEMO_SEED, DEMO_RESULT (the file to write the figures to, as NAME=VALUE lines).

local seconds = tonumber(os.getenv("DEMO_SECONDS") or "20")
local traps_per_mille = tonumber(os.getenv("DEMO_TRAPS_PER_MILLE") or "10")
local seed = tonumber(os.getenv("DEMO_SEED") or "1")

local trap_targets = {
  "/divide?by=0", "/index?i=99", "/unwrap", "/overflow", "/cast", "/recurse", "/async-trap", "/async-trap?in=group",
}

local function body(path, name, value)
  return string.format('{"path":"%s","%s":%s}\n', path, name, value)
end

-- The requests that must succeed, with the body that each must get.
local good_targets = {}
local expected_body = {}

local function expect(target, text)
  good_targets[#good_targets + 1] = target
  expected_body[target] = text
end

expect("/hello", body("/hello", "greeting", '"hello"'))
for by = 1, 9 do expect("/divide?by=" .. by, body("/divide", "quotient", math.floor(1000 / by))) end
for i, prime in ipairs({ 2, 3, 5, 7, 11 }) do expect("/index?i=" .. (i - 1), body("/index", "element", prime)) end

-- Lua's own os.time() counts whole seconds. wrk always has LuaJIT.
local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds, nanoseconds; } demo_time; int clock_gettime(int clock, demo_time *time);")
local time = ffi.new("demo_time")
local clock_monotonic = 1

local function now()
  -- Cannot fail for a valid clock and a valid address.
  ffi.C.clock_gettime(clock_monotonic, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

-- Main state: wrk calls setup() once a thread there, and done() at the end.

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
  thread:set("thread_number", #threads)
end

-- Thread state. What done() reads must be global, and flat: wrk crashes when it copies a table in a table.

pending = {}        -- request id -> target
ok = 0
trapped = 0
trapped_at = {}     -- target -> count
kinds = {}          -- target -> the server's words for it
failures = {}       -- reason -> count
samples = {}        -- reason -> the first case

local stop_at = nil
local sent = 0

function init()
  math.randomseed(seed * 1000 + thread_number)
end

-- wrk asks for a delay before every request that it sends. At the end of the load an hour keeps the connection idle.
-- (Before the load wrk calls request() once to look at it, without sending: then this was not called yet.)
function delay()
  local moment = now()
  stop_at = stop_at or moment + seconds
  if moment >= stop_at then return 3600000 end
  return 0
end

function request()
  local targets = math.random(1000) <= traps_per_mille and trap_targets or good_targets
  local target = targets[math.random(#targets)]
  sent = sent + 1
  local id = thread_number .. "-" .. sent
  if stop_at then pending[id] = target end
  return "GET " .. target .. " HTTP/1.1\r\nHost: demo\r\nX-Request-ID: " .. id .. "\r\n\r\n"
end

local function fail(reason, target, status, text)
  failures[reason] = (failures[reason] or 0) + 1
  samples[reason] = samples[reason] or string.format("%s -> %s %s", target, status, text:gsub("%s+$", ""))
end

function response(status, headers, text)
  local id = headers["x-request-id"]
  local target = id and pending[id]
  if not target then
    fail("answer to no request", id or "?", status, text)
    return
  end
  pending[id] = nil
  local expected = expected_body[target]
  if expected then
    if status ~= 200 then
      fail("status " .. status .. " for a good request", target, status, text)
    elseif text ~= expected then
      fail("wrong body", target, status, text)
    else
      ok = ok + 1
    end
    return
  end
  local path = target:match("^[^?]*")
  local kind = text:match('"kind":"([^"]+)"')
  if status ~= 500 then
    fail("status " .. status .. " for a trapping request", target, status, text)
  elseif not kind or not text:find('"error":"trap"', 1, true) or not text:find('"path":"' .. path .. '"', 1, true) then
    fail("500 without the reason of the trap", target, status, text)
  else
    trapped = trapped + 1
    trapped_at[target] = (trapped_at[target] or 0) + 1
    kinds[target] = kinds[target] or kind
  end
end

-- Main state again.

function done(summary, latency, _)
  local total_ok, total_trapped, failed, unanswered = 0, 0, 0, 0
  local counts, words, reasons, first = {}, {}, {}, {}
  for _, thread in ipairs(threads) do
    total_ok = total_ok + thread:get("ok")
    total_trapped = total_trapped + thread:get("trapped")
    for target, count in pairs(thread:get("trapped_at")) do counts[target] = (counts[target] or 0) + count end
    for target, kind in pairs(thread:get("kinds")) do words[target] = words[target] or kind end
    for reason, count in pairs(thread:get("failures")) do reasons[reason] = (reasons[reason] or 0) + count end
    for reason, sample in pairs(thread:get("samples")) do first[reason] = first[reason] or sample end
    for _, target in pairs(thread:get("pending")) do
      unanswered = unanswered + 1
      first["no answer"] = first["no answer"] or target
    end
  end

  -- A request on a connection that broke is pending for ever, so read and write errors are counted there already,
  -- unless the connection broke between two requests.
  local errors = summary.errors
  reasons["no answer"] = math.max(unanswered, errors.read + errors.write)
  reasons["connection refused"] = errors.connect
  -- Answered after wrk's timeout: right but late, so it moves from ok to failed.
  local late = math.min(errors.timeout, total_ok)
  total_ok = total_ok - late
  reasons["answer after the timeout"] = late
  for _, count in pairs(reasons) do failed = failed + count end

  local out = assert(io.open(assert(os.getenv("DEMO_RESULT"), "DEMO_RESULT is not set"), "w"))
  local function put(name, value) out:write(name, "=", tostring(value), "\n") end
  put("ok", total_ok)
  put("trapped", total_trapped)
  put("failed", failed)
  put("p50_us", latency:percentile(50))
  put("p99_us", latency:percentile(99))
  put("max_us", latency.max)
  for _, target in ipairs(trap_targets) do
    put("kind", string.format("%-22s %8d  %s", target, counts[target] or 0, words[target] or "-"))
  end
  for reason, count in pairs(reasons) do
    if count > 0 then
      put("failure", string.format("%d x %s%s", count, reason, first[reason] and ", first: " .. first[reason] or ""))
    end
  end
  out:close()
end
