-- Sends one operation for many tenants in turn and checks the responses. The first argument is the file that lab.py
-- wrote: a line with the minimum length of a good response, then for each tenant a line with its token and a line with
-- the request body. In a body, each request replaces @UUID@ by a new UUID. If a file with the same name and `.expected`
-- exists, each response must be one of its lines. The second argument is the mean pause of a connection between two
-- requests, in milliseconds.

local requests, expected, min_length, position = {}, nil, 0, 0
local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  local file = assert(io.open(args[1], "r"))
  min_length = tonumber(file:read("*l"))
  for token in file:lines() do
    local headers = {
      ["Authorization"] = "Bearer " .. token,
      ["Content-Type"] = "application/json",
    }
    table.insert(requests, format(headers, file:read("*l")))
  end
  file:close()
  local responses = io.open(args[1] .. ".expected", "r")
  if responses then
    expected = {}
    for line in responses:lines() do
      expected[line] = true
    end
    responses:close()
  end
  -- Each thread starts with a different tenant.
  position = number * 37
  math.randomseed(os.time() * 1000 + os.clock() * 1e6 % 1000 + number)
  bad, rejected = 0, 0
  local pause = tonumber(args[2] or "0")
  if pause > 0 then
    -- wrk calls `delay` before each request if it is defined.
    function delay()
      return math.random(0, 2 * pause)
    end
  end
end

-- Returns a function that returns the bytes of a request. All UUIDs have the same length, so the header Content-Length
-- stays correct.
function format(headers, body)
  local bytes = wrk.format("POST", "/graphql", headers, (body:gsub("@UUID@", string.rep("0", 36))))
  local first, last = body:find("@UUID@", 1, true)
  if not first then
    return function()
      return bytes
    end
  end
  local before = bytes:sub(1, #bytes - (#body - last) - 36)
  local after = body:sub(last + 1)
  return function()
    return before .. uuid() .. after
  end
end

function uuid()
  local random = math.random
  return string.format(
    "%04x%04x-%04x-4%03x-8%03x-%04x%04x%04x",
    random(0, 65535), random(0, 65535), random(0, 65535), random(0, 4095), random(0, 4095),
    random(0, 65535), random(0, 65535), random(0, 65535)
  )
end

function request()
  position = position + 1
  return requests[position % #requests + 1]()
end

function response(status, _, body)
  if status == 429 then
    rejected = rejected + 1
  elseif status ~= 200 or not is_good(body) then
    bad = bad + 1
  end
end

function is_good(body)
  if expected then
    return expected[body]
  end
  return #body >= min_length and not body:find('"errors"', 1, true)
end

function done(summary, latency)
  local all_bad, all_rejected = 0, 0
  for _, thread in ipairs(threads) do
    all_bad = all_bad + thread:get("bad")
    all_rejected = all_rejected + thread:get("rejected")
  end
  local errors = summary.errors
  io.write(string.format(
    "RESULT %d %d %.3f %.3f %d %d\n",
    summary.requests, summary.duration,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, all_rejected,
    all_bad + errors.connect + errors.read + errors.write + errors.timeout
  ))
end
