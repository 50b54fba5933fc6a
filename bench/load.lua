-- One operation for many tenants in turn, answers checked. Reads what run.py wrote:
-- a line with the shortest good answer, then for each tenant its token and its body on a line each.

local requests, shortest, at = {}, 0, 0
local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  local file = assert(io.open(args[1], "r"))
  shortest = tonumber(file:read("*l"))
  for token in file:lines() do
    local headers = {
      ["Authorization"] = "Bearer " .. token,
      ["Content-Type"] = "application/json",
    }
    table.insert(requests, wrk.format("POST", "/graphql", headers, file:read("*l")))
  end
  file:close()
  at = number * 37
  bad = 0
end

function request()
  at = at + 1
  return requests[at % #requests + 1]
end

function response(status, _, body)
  if status ~= 200 or #body < shortest or body:find('"errors"', 1, true) then
    bad = bad + 1
  end
end

function done(summary, latency)
  local wrong = 0
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("bad")
  end
  local errors = summary.errors
  io.write(string.format(
    "RESULT %d %d %d %d %.3f %.3f\n",
    summary.requests, summary.duration, wrong,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000
  ))
end
