-- One operation for many tenants in turn, answers checked. Reads what lab.py wrote:
-- a line with the shortest good answer, then for each tenant its token and its body on a line each.
-- A second argument is the mean pause between two requests of a connection, in milliseconds.

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
  bad, refused = 0, 0
  local pause = tonumber(args[2] or "0")
  if pause > 0 then
    -- wrk pauses if there is a function of this name.
    function delay()
      return math.random(0, 2 * pause)
    end
  end
end

function request()
  at = at + 1
  return requests[at % #requests + 1]
end

function response(status, _, body)
  if status == 429 then
    refused = refused + 1
  elseif status ~= 200 or #body < shortest or body:find('"errors"', 1, true) then
    bad = bad + 1
  end
end

function done(summary, latency)
  local wrong, limited = 0, 0
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("bad")
    limited = limited + thread:get("refused")
  end
  local errors = summary.errors
  io.write(string.format(
    "RESULT %d %d %.3f %.3f %d %d\n",
    summary.requests, summary.duration,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, limited,
    wrong + errors.connect + errors.read + errors.write + errors.timeout
  ))
end
