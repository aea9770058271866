// A device of one region of registers with a model in C++, and a mapping of it.
#pragma once

#include "device/device.h"
#include "device/register_port.h"
#include "device/register_step.h"
#include "device/register_trap.h"
#include "fault/handler_install.h"
#include "fixture.h"

namespace revocable {

struct RegisterDevice {
  DeviceRef device;
  Object* object = nullptr;
  View view;

  explicit RegisterDevice(const RegisterModel* model, const MapOptions& options = {}) {
    start_library();
    device = device_create("registers", 5000, [] {});
    ObjectOptions described{.name = "registers", .backing = device, .registers = true};
    CHECK_OK(object_create({.size = kPageSize}, described, &object));
    port_begin(object, {.model = model, .device = device.get(), .bell = -1, .trapped = register_trap_reserve()});
    device->ports.push_back(port());
    view = map(object, options);
  }
  RegisterPort* port() const { return object->port.load(); }
  char* at(size_t offset = 0) const { return view.at + offset; }
};

}  // namespace revocable
