{
  "targets": [{
    "target_name": "skim",
    "sources": ["addon.cc", "<!@(ls -1 fuse/*.cc gzip/*.cc posix/*.cc unpack/*.cc)"],
    "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")", "."],
    "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_DEPRECATED"],
    "libraries": ["-ldeflate", "-lisal", "-lzstd"],
    "cflags_cc!": ["-fno-rtti", "-fno-exceptions", "-std=gnu++17", "-std=gnu++20"],
    # -Wrestrict: false alarms of GCC 12 on joined strings (its bug 105651).
    "cflags_cc": ["-std=c++20", "-fexceptions", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-restrict"]
  }, {
    "target_name": "skim-holder",
    "type": "executable",
    "sources": ["<!@(ls -1 holder/*.cc)"],
    "include_dirs": ["."],
    "cflags_cc!": ["-fno-rtti", "-std=gnu++17", "-std=gnu++20", "-fno-exceptions"],
    "cflags_cc": ["-std=c++20", "-fexceptions", "-Os", "-ffunction-sections", "-Wall", "-Wextra", "-Wno-missing-field-initializers"],
    # Nothing to load, and a process that is small and quick to fork.
    "ldflags": ["-static", "-Wl,--gc-sections"],
    "ldflags!": ["-rdynamic"]
  }, {
    # A program that runs in mount namespaces and sandboxes of containers: it must find everything in itself.
    "target_name": "skim-files",
    "type": "executable",
    "sources": ["<!@(ls -1 files/*.cc)"],
    "include_dirs": ["."],
    "cflags_cc!": ["-fno-rtti", "-fno-exceptions", "-std=gnu++17", "-std=gnu++20"],
    "cflags_cc": ["-std=c++20", "-fexceptions", "-Wall", "-Wextra"],
    "ldflags!": ["-rdynamic"],
    "ldflags": ["-static", "-s"]
  }]
}
