-- Sends one request again and again and counts the responses by status, rejected operations apart. The first argument is
-- a file with the bytes of the request.

local request_bytes
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  request_bytes = file:read("*a")
  file:close()
  statuses = {}
end

function request()
  return request_bytes
end

function response(status, _, body)
  local key = tostring(status)
  -- A rejected operation has no member `data` before its errors.
  if status == 200 and body:sub(1, 9) == '{"errors"' then
    key = "200 with errors"
  end
  statuses[key] = (statuses[key] or 0) + 1
end

function done(summary)
  local parts = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      table.insert(parts, string.format('"%s": %d', status, count))
    end
  end
  local errors = summary.errors
  local closed = errors.connect + errors.read + errors.write
  if closed > 0 then
    table.insert(parts, string.format('"closed": %d', closed))
  end
  io.write("RESULT {" .. table.concat(parts, ", ") .. "}\n")
end
