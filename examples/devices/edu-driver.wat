;; The registers of the edu card, driven by a WebAssembly program: the compiled counterpart of EduRegisters in edu-driver.mjs.
;; They are mapped into the program's own memory, from 0x10000 on. Loads are atomic, since V8 may make one of several others; stores are
;; not, since an atomic one is an exchange on x86-64, which loads too. `npm run generate:wasm` makes edu-driver.wasm of this.
(module
  (import "env" "memory" (memory 17 17 shared))

  (func (export "identification") (result i32)
    (i32.atomic.load offset=0x10000 (i32.const 0)))

  (func (export "invert") (param $challenge i32) (result i32)
    (i32.store offset=0x10004 (i32.const 0) (local.get $challenge))
    (i32.atomic.load offset=0x10004 (i32.const 0)))

  (func (export "startFactorial") (param $status i32) (param $n i32)
    (i32.store offset=0x10020 (i32.const 0) (local.get $status))
    (i32.store offset=0x10008 (i32.const 0) (local.get $n)))

  ;; Loads the status until the card no longer computes (0x01), at most so many times. Of a card that is gone all bits are set, or
  ;; what was stored there afterwards: a loop that did not know would never end.
  (func (export "poll") (param $times i32) (result i32)
    (local $status i32)
    (loop $again
      (local.set $status (i32.atomic.load offset=0x10020 (i32.const 0)))
      (local.set $times (i32.sub (local.get $times) (i32.const 1)))
      (if (i32.eq (local.get $status) (i32.const -1)) (then (return (local.get $status))))
      (br_if $again (i32.and
        (i32.and (local.get $status) (i32.const 0x01))
        (i32.ne (local.get $times) (i32.const 0)))))
    (local.get $status))

  (func (export "result") (result i32)
    (i32.atomic.load offset=0x10008 (i32.const 0)))

  (func (export "startDma") (param $source i64) (param $destination i64) (param $count i64) (param $command i64)
    (i64.store offset=0x10080 (i32.const 0) (local.get $source))
    (i64.store offset=0x10088 (i32.const 0) (local.get $destination))
    (i64.store offset=0x10090 (i32.const 0) (local.get $count))
    (i64.store offset=0x10098 (i32.const 0) (local.get $command)))

  (func (export "cause") (result i32)
    (i32.atomic.load offset=0x10024 (i32.const 0)))

  (func (export "acknowledge") (param $cause i32)
    (i32.store offset=0x10064 (i32.const 0) (local.get $cause))))
