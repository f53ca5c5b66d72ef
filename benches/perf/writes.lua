-- wrk: creates or changes nodes. FERRIC_PERF_DO=create, or =patch with FERRIC_PERF_IDS, a file of one uuid a line.
local what, mine = os.getenv("FERRIC_PERF_DO"), 0

function setup(thread)
   thread:set("id", mine)
   mine = mine + 1
end

function init()
   count, ids = 0, {}
   wrk.headers["X-OpenStack-Ironic-API-Version"] = "1.82"
   wrk.headers["Content-Type"] = "application/json"
   if what == "patch" then
      for line in io.lines(os.getenv("FERRIC_PERF_IDS")) do ids[#ids + 1] = line end
   end
end

function request()
   count = count + 1
   if what == "patch" then
      local body = '[{"op": "add", "path": "/extra/counter", "value": ' .. count .. '}]'
      return wrk.format("PATCH", "/v1/nodes/" .. ids[(count * 2 + id) % #ids + 1], nil, body)
   end
   local body = string.format('{"driver": "fake-hardware", "name": "w-%d-%d", "resource_class": "load", ' ..
      '"properties": {"cpus": 8, "memory_mb": 32768, "local_gb": 100, "cpu_arch": "x86_64"}, ' ..
      '"driver_info": {"deploy_kernel": "http://127.0.0.1/k", "deploy_ramdisk": "http://127.0.0.1/r"}, ' ..
      '"extra": {"rack": "r%d", "index": %d}}', id, count, count % 40, count)
   return wrk.format("POST", "/v1/nodes", nil, body)
end
