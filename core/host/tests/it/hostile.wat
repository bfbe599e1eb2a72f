;; A driver that does what the first byte of a message says. Results are written at 8192, which is zeroed first:
;; zeroes are "ok, no events, no replies, state unchanged".
(module
  IMPORTS
  (import "hexa:core/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  (memory (export "memory") 10)
  (table $t 1 funcref)
  (global $heap (mut i32) (i32.const 131072))
  (global $count (mut i32) (i32.const 0))
  (table $small 1 2 funcref)
  (data (i32.const 512) "\00\04\00\00")                ;; describe: pointer 1024, length below
  (data (i32.const 516) "LENGTH")
  (data (i32.const 1024) "DESCRIPTOR")

  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    ;; Everything is forgotten after each call, so the heap simply starts again when it is full.
    (if (i32.gt_u (i32.add (global.get $heap) (local.get 3)) (i32.const 600000))
      (then (global.set $heap (i32.const 131072))))
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (local.get $at))

  (func $recurse (param i64) (result i64)
    (i64.add (call $recurse (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))

  (func $spin (param $turns i64)
    (loop $again
      (local.set $turns (i64.sub (local.get $turns) (i64.const 1)))
      (br_if $again (i64.ne (local.get $turns) (i64.const 0)))))

  ;; For a start that is slow every time: some 100 ms, which is more than a call may have.
  (func $warm (call $spin (i64.const 200000000)))

  (func $set (param $offset i32) (param $value i32)
    (i32.store (i32.add (i32.const 8192) (local.get $offset)) (local.get $value)))

  (func (export "hexa:driver/catalog@0.1.0#describe") (result i32)
    DESCRIBE
    (i32.const 512))

  (func $clear (result i32)
    (memory.fill (i32.const 8192) (i32.const 0) (i32.const 64))
    (memory.fill (i32.const 16384) (i32.const 0) (i32.const 64))
    (i32.const 8192))

  (func (export "hexa:driver/catalog@0.1.0#validate-config") (param i32) (result i32)
    (call $clear))
  (func (export "hexa:driver/codec@0.1.0#open-session")
    (param i64 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32) (result i32)
    (call $clear))
  ;; No frame, and the acknowledgement policy `none`.
  (func (export "hexa:driver/codec@0.1.0#encode-command") (param i32) (result i32)
    (call $clear))

  (func (export "hexa:driver/codec@0.1.0#decode-message") (param $args i32) (result i32)
    (local $what i32) (local $i i32)
    (local.set $what (i32.load8_u (i32.load offset=76 (local.get $args))))
    (drop (call $clear))
    ;; l: loop for ever
    (if (i32.eq (local.get $what) (i32.const 108)) (then (call $spin (i64.const 0))))
    ;; w: work for some milliseconds
    (if (i32.eq (local.get $what) (i32.const 119)) (then (call $spin (i64.const 4000000))))
    ;; t: trap
    (if (i32.eq (local.get $what) (i32.const 116)) (then unreachable))
    ;; r: recursion without end
    (if (i32.eq (local.get $what) (i32.const 114)) (then (drop (call $recurse (i64.const 0)))))
    ;; g: grow memory to more than 16 MiB, page by page
    (if (i32.eq (local.get $what) (i32.const 103))
      (then (loop $more (drop (memory.grow (i32.const 16))) (br $more))))
    ;; q: grow a table to more than 10,000 elements
    (if (i32.eq (local.get $what) (i32.const 113))
      (then (loop $more (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $more))))
    ;; k: 100 ms of bulk instructions over all of its memory, with few places to be stopped at
    (if (i32.eq (local.get $what) (i32.const 107))
      (then (drop (memory.grow (i32.const 200)))
        (loop $more (memory.fill (i32.const 262144) (i32.const 1) (i32.const 12000000)) (br $more))))
    ;; x: 1,000 log lines
    (if (i32.eq (local.get $what) (i32.const 120))
      (then (loop $line
        (call $log (i32.const 2) (i32.const 1024) (i32.const 20))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $line (i32.lt_u (local.get $i) (i32.const 1000))))))
    ;; y: one log line
    (if (i32.eq (local.get $what) (i32.const 121)) (then (call $log (i32.const 2) (i32.const 1024) (i32.const 20))))
    ;; e: 65 events
    (if (i32.eq (local.get $what) (i32.const 101))
      (then (call $set (i32.const 4) (i32.const 16384)) (call $set (i32.const 8) (i32.const 65))))
    ;; i: a state report of relay 9
    (if (i32.eq (local.get $what) (i32.const 105))
      (then (call $set (i32.const 4) (i32.const 16384)) (call $set (i32.const 8) (i32.const 1))
        (i32.store8 (i32.const 16384) (i32.const 2))
        (i32.store (i32.const 16392) (i32.const 32768)) (i32.store (i32.const 16396) (i32.const 1))
        (i32.store (i32.const 32768) (i32.const 9))))
    ;; u: a reading with the undeclared key ""
    (if (i32.eq (local.get $what) (i32.const 117))
      (then (call $set (i32.const 4) (i32.const 16384)) (call $set (i32.const 8) (i32.const 1))
        (i32.store8 (i32.const 16384) (i32.const 4))
        (i32.store (i32.const 16392) (i32.const 32768)) (i32.store (i32.const 16396) (i32.const 1))))
    ;; f: a reply of 65,537 bytes; b: one of 300 KiB; o: an empty one; p: one that is not in memory
    (if (i32.eq (local.get $what) (i32.const 102)) (then (call $reply (i32.const 65537))))
    (if (i32.eq (local.get $what) (i32.const 98)) (then (call $reply (i32.const 307200))))
    (if (i32.eq (local.get $what) (i32.const 111)) (then (call $reply (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 112)) (then (call $reply (i32.const 2000000000))))
    ;; n: 33 replies
    (if (i32.eq (local.get $what) (i32.const 110))
      (then (call $set (i32.const 12) (i32.const 16384)) (call $set (i32.const 16) (i32.const 33))))
    ;; c: a reply as long as the number of these calls that the instance has seen
    (if (i32.eq (local.get $what) (i32.const 99))
      (then (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (call $reply (global.get $count))))
    ;; h: grow to 13 MiB, which is more than three quarters of what is allowed
    (if (i32.eq (local.get $what) (i32.const 104)) (then (drop (memory.grow (i32.const 198)))))
    ;; j: 1,000 times ask for 100 elements of a table that may have two; every one is refused and takes nothing
    (if (i32.eq (local.get $what) (i32.const 106))
      (then (loop $line
        (if (i32.ne (table.grow $small (ref.null func) (i32.const 100)) (i32.const -1)) (then unreachable))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $line (i32.lt_u (local.get $i) (i32.const 1000))))))
    ;; s: a volatile state of 5,000 bytes
    (if (i32.eq (local.get $what) (i32.const 115))
      (then (call $set (i32.const 20) (i32.const 1)) (call $set (i32.const 28) (i32.const 5000))))
    ;; m: malformed, which is a healthy answer
    (if (i32.eq (local.get $what) (i32.const 109))
      (then (call $set (i32.const 0) (i32.const 1)) (call $set (i32.const 4) (i32.const 2))))
    (i32.const 8192))

  ;; One text reply of this length from address 200000, where zeroes are.
  (func $reply (param $length i32)
    (call $set (i32.const 12) (i32.const 16384)) (call $set (i32.const 16) (i32.const 1))
    (i32.store (i32.const 16388) (i32.const 200000)) (i32.store (i32.const 16392) (local.get $length)))
)
