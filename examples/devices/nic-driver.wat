;; The rings of the network card, driven by a WebAssembly program: the compiled counterpart of NicRings in nic-driver.mjs. In the
;; program's own memory lie
;;
;;   0x00000  a frame, on its way to the card or from it
;;   0x10000  the card's registers
;;   0x20000  the memory that it shares with its driver
;;
;; Loads of registers are atomic, since V8 may make one of several others; stores are not, since an atomic one is an exchange on
;; x86-64, which loads too. `npm run generate:wasm` makes nic-driver.wasm of this.
(module
  (import "env" "memory" (memory 3 65536 shared))

  (global $count (mut i32) (i32.const 0))        ;; descriptors of a ring
  (global $nextToSend (mut i32) (i32.const 0))
  (global $nextToReceive (mut i32) (i32.const 0))

  ;; Where the descriptor is: the ring to send by comes first. And its buffer: those of 2048 bytes come behind both rings.
  (func $sendDescriptor (param $index i32) (result i32)
    (i32.mul (local.get $index) (i32.const 16)))
  (func $receiveDescriptor (param $index i32) (result i32)
    (i32.mul (i32.add (global.get $count) (local.get $index)) (i32.const 16)))
  (func $sendBuffer (param $index i32) (result i32)
    (i32.add
      (i32.mul (global.get $count) (i32.const 32))
      (i32.mul (local.get $index) (i32.const 2048))))
  (func $receiveBuffer (param $index i32) (result i32)
    (call $sendBuffer (i32.add (global.get $count) (local.get $index))))

  (func $describe (param $descriptor i32) (param $address i32) (param $length i32)
    (i32.store offset=0x20000 (local.get $descriptor) (local.get $address))
    (i32.store offset=0x20004 (local.get $descriptor) (local.get $length))
    (i32.store offset=0x20008 (local.get $descriptor) (i32.const 0)))

  (func $after (param $index i32) (result i32)
    (i32.rem_u (i32.add (local.get $index) (i32.const 1)) (global.get $count)))

  ;; Resets the card, gives it both rings and all buffers to receive into but one, and enables it.
  (func (export "start") (param $descriptors i32)
    (local $i i32)
    (global.set $count (local.get $descriptors))
    (i32.store offset=0x10000 (i32.const 0) (i32.const 2))
    (i32.store offset=0x10040 (i32.const 0) (i32.const 0))
    (i32.store offset=0x10044 (i32.const 0) (global.get $count))
    (i32.store offset=0x10060 (i32.const 0) (i32.mul (global.get $count) (i32.const 16)))
    (i32.store offset=0x10064 (i32.const 0) (global.get $count))
    (loop $next
      (call $describe
        (call $receiveDescriptor (local.get $i))
        (call $receiveBuffer (local.get $i))
        (i32.const 2048))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (global.get $count))))
    (i32.store offset=0x1006c (i32.const 0) (i32.sub (global.get $count) (i32.const 1)))
    (i32.store offset=0x10000 (i32.const 0) (i32.const 1)))

  ;; How many frames can be sent without waiting; -1 when the card is gone.
  (func (export "room") (result i32)
    (local $head i32)
    (local.set $head (i32.atomic.load offset=0x10048 (i32.const 0)))
    (if (i32.eq (local.get $head) (i32.const -1)) (then (return (i32.const -1))))
    (i32.rem_u
      (i32.add
        (i32.sub (local.get $head) (global.get $nextToSend))
        (i32.sub (global.get $count) (i32.const 1)))
      (global.get $count)))

  ;; Sends the frame that lies at 0. There is room for it.
  (func (export "send") (param $length i32)
    (memory.copy
      (i32.add (i32.const 0x20000) (call $sendBuffer (global.get $nextToSend)))
      (i32.const 0)
      (local.get $length))
    (call $describe
      (call $sendDescriptor (global.get $nextToSend))
      (call $sendBuffer (global.get $nextToSend))
      (local.get $length))
    (global.set $nextToSend (call $after (global.get $nextToSend)))
    (i32.store offset=0x1004c (i32.const 0) (global.get $nextToSend))
    (i32.store offset=0x1000c (i32.const 0) (i32.const 1)))

  ;; Puts the next frame at 0, gives its buffer back, and returns its length; 0 when none has come, -1 when the memory is gone.
  (func (export "receive") (result i32)
    (local $descriptor i32)
    (local $length i32)
    (local.set $descriptor (call $receiveDescriptor (global.get $nextToReceive)))
    (if (i32.eqz (i32.and (i32.atomic.load offset=0x20008 (local.get $descriptor)) (i32.const 1)))
      (then (return (i32.const 0))))
    (local.set $length (i32.load offset=0x20004 (local.get $descriptor)))
    (if (i32.gt_u (local.get $length) (i32.const 2048)) (then (return (i32.const -1))))
    (memory.copy
      (i32.const 0)
      (i32.add (i32.const 0x20000) (call $receiveBuffer (global.get $nextToReceive)))
      (local.get $length))
    (call $describe
      (local.get $descriptor)
      (call $receiveBuffer (global.get $nextToReceive))
      (i32.const 2048))
    ;; The card may fill those before it now: one always stays behind, or a full ring would look like an empty one.
    (i32.store offset=0x1006c (i32.const 0) (global.get $nextToReceive))
    (global.set $nextToReceive (call $after (global.get $nextToReceive)))
    (local.get $length))

  ;; Clears what interrupts were raised for, and returns it.
  (func (export "acknowledge") (result i32)
    (local $cause i32)
    (local.set $cause (i32.atomic.load offset=0x10008 (i32.const 0)))
    (i32.store offset=0x10008 (i32.const 0) (local.get $cause))
    (local.get $cause))

  (func (export "status") (result i32) (i32.atomic.load offset=0x10004 (i32.const 0)))
  (func (export "sent") (result i32) (i32.atomic.load offset=0x10010 (i32.const 0)))
  (func (export "received") (result i32) (i32.atomic.load offset=0x10014 (i32.const 0)))
  (func (export "dropped") (result i32) (i32.atomic.load offset=0x10018 (i32.const 0))))
