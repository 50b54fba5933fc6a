-- Sends one operation for many tenants in turn and checks the responses. The first argument is the file that lab.py
-- wrote: a line with the minimum length of a good response, then for each tenant a line with its token and a line with
-- the request body. The second argument is the mean pause of a connection between two requests, in milliseconds.

local requests, min_length, position = {}, 0, 0
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
    table.insert(requests, wrk.format("POST", "/graphql", headers, file:read("*l")))
  end
  file:close()
  -- Each thread starts with another tenant.
  position = number * 37
  bad, rejected = 0, 0
  local pause = tonumber(args[2] or "0")
  if pause > 0 then
    -- wrk calls `delay` before each request if it is defined.
    function delay()
      return math.random(0, 2 * pause)
    end
  end
end

function request()
  position = position + 1
  return requests[position % #requests + 1]
end

function response(status, _, body)
  if status == 429 then
    rejected = rejected + 1
  elseif status ~= 200 or #body < min_length or body:find('"errors"', 1, true) then
    bad = bad + 1
  end
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
