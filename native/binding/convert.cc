#include "binding/convert.h"

namespace revocable::binding {

Napi::Value to_js(Napi::Env env, const Failure& failure) {
  if (!failure) return env.Null();
  Napi::Object result = Napi::Object::New(env);
  result["errno"] = Napi::Number::New(env, -failure.errnum);
  result["syscall"] = Napi::String::New(env, failure.syscall);
  return result;
}

}  // namespace revocable::binding
