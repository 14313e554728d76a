-- wrk: post photographs. Arguments: files; `form`, to send each as a multipart form.
local bodies = {}
local boundary = "a-photograph-of-the-benchmark"

local function as_form(bytes)
   return "--" .. boundary .. '\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
      .. "Content-Type: image/jpeg\r\n\r\n" .. bytes .. "\r\n--" .. boundary .. "--\r\n"
end

function init(args)
   local form = false
   for _, arg in ipairs(args) do
      if arg == "form" then
         form = true
      else
         local file = assert(io.open(arg, "rb"))
         local bytes = file:read("*a")
         file:close()
         bodies[#bodies + 1] = form and as_form(bytes) or bytes
      end
   end
   wrk.method = "POST"
   wrk.headers["Content-Type"] = form and "multipart/form-data; boundary=" .. boundary or "image/jpeg"
end

local sent = 0
function request()
   sent = sent + 1
   return wrk.format(nil, nil, nil, bodies[sent % #bodies + 1])
end

function done(summary, latency)
   local broken = summary.errors.connect + summary.errors.read + summary.errors.write
   io.write(string.format(
      'JSON {"requests": %d, "us": %d, "p50_us": %d, "p99_us": %d, "mean_us": %f, '
         .. '"bad_status": %d, "socket": %d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      latency.mean, summary.errors.status, broken + summary.errors.timeout))
end
