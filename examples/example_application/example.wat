;; The example application: a WASI command (preview 1) that the loader starts once for each request.
;;
;;   argv = [app, "grpc", "/pkg.Service/Method"]   stdin: the request message   stdout: the reply message
;;   argv = [app, "http"]                          stdin: an HTTP/1.1 request   stdout: an HTTP/1.1 response
;;
;; The exit code is the gRPC status. It answers proxy_attestation.example.v1.ExampleApplication/GetExampleMessage with
;; one text, any other method with 12 (UNIMPLEMENTED), and GET and HEAD over HTTP with the same text.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  ;; Memory: 0 scratch words | 64 argv pointers | 128 constants | 1024 argv strings | 8192 what was read.
  (memory (export "memory") 1)

  (data (i32.const 128) "grpc\00")
  (data (i32.const 136) "http\00")
  (data (i32.const 144) "/proxy_attestation.example.v1.ExampleApplication/GetExampleMessage\00")
  ;; The reply message: field 1, wire type 2 (LEN), 25 bytes. The text begins two bytes in.
  (data (i32.const 256) "\0a\19Hello from attested code!")
  (data (i32.const 320) "HTTP/1.1 200 OK\0d\0aContent-Type: text/plain; charset=utf-8\0d\0aContent-Length: 25\0d\0a\0d\0a")
  (data (i32.const 448) "HTTP/1.1 405 Method Not Allowed\0d\0aAllow: GET, HEAD\0d\0aContent-Length: 0\0d\0a\0d\0a")

  ;; Whether two strings that end with a zero byte are equal.
  (func $equal (param $a i32) (param $b i32) (result i32)
    (loop $next
      (if (i32.ne (i32.load8_u (local.get $a)) (i32.load8_u (local.get $b))) (then (return (i32.const 0))))
      (if (i32.eqz (i32.load8_u (local.get $a))) (then (return (i32.const 1))))
      (local.set $a (i32.add (local.get $a) (i32.const 1)))
      (local.set $b (i32.add (local.get $b) (i32.const 1)))
      (br $next))
    (unreachable))

  ;; Write $length bytes to stdout, or exit with 13 (INTERNAL).
  (func $write (param $address i32) (param $length i32)
    (loop $more
      (i32.store (i32.const 0) (local.get $address))
      (i32.store (i32.const 4) (local.get $length))
      (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
        (then (call $proc_exit (i32.const 13))))
      (local.set $address (i32.add (local.get $address) (i32.load (i32.const 8))))
      (local.set $length (i32.sub (local.get $length) (i32.load (i32.const 8))))
      (br_if $more (local.get $length))))

  ;; Read stdin to its end, keep the first 4 KiB at 8192, and return how many bytes there were of them.
  (func $read (result i32)
    (local $kept i32)
    (block $end
      (loop $more
        (i32.store (i32.const 0) (i32.add (i32.const 8192) (local.get $kept)))
        (i32.store (i32.const 4) (i32.const 4096))
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
          (then (call $proc_exit (i32.const 13))))
        (br_if $end (i32.eqz (i32.load (i32.const 8))))
        (local.set $kept (i32.add (local.get $kept) (i32.load (i32.const 8))))
        (if (i32.gt_u (local.get $kept) (i32.const 4096)) (then (local.set $kept (i32.const 4096))))
        (br $more)))
    (local.get $kept))

  (func $grpc (param $method i32)
    (if (i32.eqz (call $equal (local.get $method) (i32.const 144)))
      (then (call $proc_exit (i32.const 12))))
    ;; GetExampleMessageRequest has no fields: whatever it holds is unknown to us, and ignored.
    (drop (call $read))
    (call $write (i32.const 256) (i32.const 27)))

  (func $http
    (if (i32.lt_u (call $read) (i32.const 5))
      (then (call $proc_exit (i32.const 13))))
    ;; "GET " and "HEAD", little-endian.
    (if (i32.eq (i32.load (i32.const 8192)) (i32.const 0x20544547))
      (then
        (call $write (i32.const 320) (i32.const 80))
        (call $write (i32.const 258) (i32.const 25))
        (return)))
    (if (i32.eq (i32.load (i32.const 8192)) (i32.const 0x44414548))
      (then
        (call $write (i32.const 320) (i32.const 80))
        (return)))
    (call $write (i32.const 448) (i32.const 72)))

  (func (export "_start")
    ;; scratch: 16 argc, 20 bytes of all arguments
    (drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
    (if (i32.or (i32.lt_u (i32.load (i32.const 16)) (i32.const 2))
                (i32.or (i32.gt_u (i32.load (i32.const 16)) (i32.const 8))
                        (i32.gt_u (i32.load (i32.const 20)) (i32.const 4096))))
      (then (call $proc_exit (i32.const 13))))
    (drop (call $args_get (i32.const 64) (i32.const 1024)))
    (if (call $equal (i32.load (i32.const 68)) (i32.const 136))
      (then (call $http) (return)))
    (if (i32.and (call $equal (i32.load (i32.const 68)) (i32.const 128))
                 (i32.eq (i32.load (i32.const 16)) (i32.const 3)))
      (then (call $grpc (i32.load (i32.const 72))) (return)))
    (call $proc_exit (i32.const 13))))
