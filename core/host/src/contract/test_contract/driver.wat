;; A driver of the test contract 0.2. It opens with its settings as a frame, sends the command's id for a relay, and gives
;; back the message that it decodes.
(module
  (memory (export "memory") 4)
  (global $heap (mut i32) (i32.const 65536))
  (data (i32.const 512) "\00\04\00\00LENGTH")          ;; describe: pointer 1024, and its length
  (data (i32.const 600) "\80\02\00\00\05\00\00\00")    ;; greet: pointer 640, 5 bytes
  (data (i32.const 640) "hello")
  (data (i32.const 1024) "DESCRIPTOR")

  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (if (i32.gt_u (i32.add (global.get $heap) (local.get 3)) (i32.const 200000))
      (then (global.set $heap (i32.const 65536))))
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (local.get $at))

  ;; ok, one frame of this kind at 8256, with these bytes.
  (func $one (param $kind i32) (param $at i32) (param $length i32) (result i32)
    (i32.store (i32.const 8192) (i32.const 0))
    (i32.store (i32.const 8196) (i32.const 8256))
    (i32.store (i32.const 8200) (i32.const 1))
    (i32.store (i32.const 8256) (local.get $kind))
    (i32.store (i32.const 8260) (local.get $at))
    (i32.store (i32.const 8264) (local.get $length))
    (i32.const 8192))

  (func (export "hexa:driver/catalog@0.2.0#describe") (result i32) (i32.const 512))
  ;; The configuration itself is what is handed back with every call.
  (func (export "hexa:driver/catalog@0.2.0#validate-config") (param i32 i32) (result i32)
    (i32.store (i32.const 8192) (i32.const 0))
    (i32.store (i32.const 8196) (local.get 0))
    (i32.store (i32.const 8200) (local.get 1))
    (i32.const 8192))
  (func (export "hexa:driver/codec@0.2.0#open-session") (param i32 i32 i64) (result i32)
    (call $one (i32.const 1) (local.get 0) (local.get 1)))
  (func (export "hexa:driver/codec@0.2.0#set-relay") (param i32 i32 i64 i32 i32 i32 i32) (result i32)
    (call $one (i32.const 0) (local.get 3) (local.get 4)))
  (func (export "hexa:driver/codec@0.2.0#decode-message") (param i32 i32 i64 i32 i32) (result i32)
    (call $one (i32.const 1) (local.get 3) (local.get 4)))
  GREETER
)
