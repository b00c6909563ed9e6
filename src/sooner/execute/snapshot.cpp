/* Whether a cohort's tensors are as they were, in one call: what `sooner.execute.cohort` asks tensor by tensor.

   A `Snapshot` notes every parameter, state tensor and gradient: the object, its C++ tensor, dispatch keys, dtype, device,
   requires_grad, sizes, strides, address, and that the storage is large enough. Every later call compares all of this
   with what is there. It never follows a change: where anything differs it says so, and Python looks for itself.

   Of torch it uses the headers of the C++ tensor alone, which compile in two seconds (those of the Python object take
   ten). Where an object keeps its C++ tensor is measured by Python and compared with `Tensor._cdata` for every tensor.
*/
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <torch/headeronly/version.h>

#ifdef Py_GIL_DISABLED
#error "objects are read without locks, which the global interpreter lock makes safe"
#endif

#if TORCH_VERSION_MAJOR * 1000000 + TORCH_VERSION_MINOR * 1000 + TORCH_VERSION_PATCH != SOONER_TORCH
#error "the headers are not those of the torch that runs"
#endif

#include <ATen/core/TensorBody.h>

#include <cstring>
#include <vector>

namespace {

constexpr size_t AHEAD = 8; /* how many tensors before its turn the memory of one is asked for */

/* CPython up to 3.11 gives a dict a new number whenever it is changed; later ones are looked through. */
#if PY_VERSION_HEX < 0x030C0000
uint64_t version_of(PyObject *dict) { return reinterpret_cast<PyDictObject *>(dict)->ma_version_tag; }
#else
uint64_t version_of(PyObject *) { return 0; }
#endif

/* One tensor as it was. Sizes and strides are the `rank` numbers from `shape` on, each, in the snapshot's own list. */
struct Seen {
  PyObject *object; /* kept alive by the snapshot's `owned` */
  PyTypeObject *type;
  c10::TensorImpl *impl;
  c10::StorageImpl *storage;
  const void *autograd; /* where torch keeps requires_grad and the gradient; only asked for ahead */
  c10::DispatchKeySet keys;
  caffe2::TypeMeta dtype;
  c10::Device device{c10::kCPU};
  bool requires_grad;
  size_t shape, rank;
  size_t bytes; /* from the address to the end of the last element */
  void *address;
};

struct Snapshot {
  PyObject_HEAD
  PyObject *owned;  /* a list of everything that is pointed to below */
  PyObject *params; /* a tuple */
  PyObject *states; /* a tuple of dicts, one for each parameter */
  PyObject *names;  /* a tuple: what is looked for in each */
  PyObject *steps;  /* the tensor that counts steps, or None */
  size_t cdata;     /* offset of the C++ tensor in an object */
  std::vector<Seen> *seen;      /* parameters, and behind them the state of the first, of the second, ... */
  std::vector<Seen> *gradients; /* as noted last; none before */
  std::vector<int64_t> *shapes, *gradient_shapes;
  std::vector<uint64_t> *versions;     /* of the dicts */
  std::vector<double> *counted;        /* what the tensor of steps must hold */
  std::vector<at::Tensor> *held;       /* the gradients of this step */
};

c10::TensorImpl *impl_of(const Snapshot *self, PyObject *object) {
  c10::TensorImpl *impl;
  std::memcpy(&impl, reinterpret_cast<const char *>(object) + self->cdata, sizeof impl);
  return impl;
}

/* The address of the first element; as `Tensor.data_ptr` it makes shared memory that is copied on writing one's own. */
void *address_of(c10::TensorImpl *impl) {
  if (impl->numel() == 0) return nullptr;
  char *start = static_cast<char *>(impl->unsafe_storage().unsafeGetStorageImpl()->mutable_data());
  return start == nullptr ? nullptr : start + impl->dtype().itemsize() * impl->storage_offset();
}

bool large_enough(c10::TensorImpl *impl, size_t bytes) {
  const size_t start = impl->dtype().itemsize() * impl->storage_offset();
  return bytes == 0 || start + bytes <= impl->unsafe_storage().nbytes();
}

/* Note a tensor; false for one that is not a plain vector of numbers in the processor's memory. */
bool note(Seen &into, std::vector<int64_t> &shapes, c10::TensorImpl *impl) {
  if (impl == nullptr || impl->layout() != c10::kStrided || !impl->device().is_cpu() || !impl->has_storage() ||
      impl->is_python_dispatch() || impl->is_inference())
    return false;
  const auto sizes = impl->sizes(), strides = impl->strides();
  into.impl = impl;
  into.storage = impl->unsafe_storage().unsafeGetStorageImpl();
  into.autograd = impl->autograd_meta();
  into.keys = impl->key_set();
  into.dtype = impl->dtype();
  into.device = impl->device();
  into.requires_grad = impl->requires_grad();
  into.shape = shapes.size();
  into.rank = sizes.size();
  shapes.insert(shapes.end(), sizes.begin(), sizes.end());
  shapes.insert(shapes.end(), strides.begin(), strides.end());
  int64_t last = 0;
  for (size_t d = 0; d < into.rank; d++) {
    if (strides[d] < 0) return false;
    last += (sizes[d] - 1) * strides[d];
  }
  into.bytes = impl->numel() == 0 ? 0 : (last + 1) * impl->dtype().itemsize();
  into.address = address_of(impl);
  return large_enough(impl, into.bytes) && (into.address != nullptr) == (impl->numel() != 0);
}

/* Whether a tensor is laid out as it was; its memory may be elsewhere. */
bool alike(const Seen &was, const std::vector<int64_t> &shapes, c10::TensorImpl *impl) {
  if (!(impl->key_set() == was.keys) || impl->dtype() != was.dtype || impl->device() != was.device) return false;
  const auto sizes = impl->sizes(), strides = impl->strides();
  const int64_t *shape = shapes.data() + was.shape;
  return sizes.size() == was.rank && std::memcmp(sizes.data(), shape, was.rank * sizeof *shape) == 0 &&
         std::memcmp(strides.data(), shape + was.rank, was.rank * sizeof *shape) == 0 &&
         impl->requires_grad() == was.requires_grad && impl->has_storage() && large_enough(impl, was.bytes);
}

bool as_before(const Snapshot *self, const Seen &was, PyObject *object) {
  return object == was.object && Py_TYPE(object) == was.type && impl_of(self, object) == was.impl &&
         alike(was, *self->shapes, was.impl) && address_of(was.impl) == was.address;
}

void ask_for(const void *start, int lines) {
  for (int i = 0; i < lines; i++) __builtin_prefetch(static_cast<const char *>(start) + 64 * i);
}

void ask_for(const std::vector<Seen> &seen, size_t i) {
  if (i >= seen.size()) return;
  ask_for(seen[i].object, 1);
  ask_for(seen[i].impl, 4);
  ask_for(seen[i].storage, 2);
  if (seen[i].autograd != nullptr) ask_for(seen[i].autograd, 2);
}

float *steps_of(const Snapshot *self, size_t count) {
  c10::TensorImpl *impl = impl_of(self, self->steps);
  const bool fine = impl->layout() == c10::kStrided && impl->device().is_cpu() && impl->is_contiguous() &&
                    impl->dtype() == caffe2::TypeMeta::Make<float>() && impl->numel() == (int64_t)count &&
                    large_enough(impl, count * sizeof(float));
  return fine ? static_cast<float *>(address_of(impl)) : nullptr;
}

/* Forget the gradients, outside of the list: letting go of one may run Python. */
void let_go(Snapshot *self) {
  std::vector<at::Tensor> held;
  held.swap(*self->held);
}

/* note(): note parameters and state as they are; False where there is something that it can not compare. */
PyObject *snapshot_note(PyObject *object, PyObject *) {
  Snapshot *self = reinterpret_cast<Snapshot *>(object);
  const Py_ssize_t count = PyTuple_GET_SIZE(self->params), names = PyTuple_GET_SIZE(self->names);
  PyObject *owned = PyList_New(0);
  if (owned == nullptr) return nullptr;
  std::vector<Seen> seen(count * (1 + names));
  std::vector<int64_t> shapes;
  std::vector<uint64_t> versions;
  bool fine = true;
  auto add = [&](Seen &into, PyObject *tensor) {
    if (PyList_Append(owned, tensor) != 0) return false;
    into.object = tensor;
    into.type = Py_TYPE(tensor);
    PyObject *known = PyObject_GetAttrString(tensor, "_cdata");
    const void *impl = known == nullptr ? nullptr : PyLong_AsVoidPtr(known);
    Py_XDECREF(known);
    return !PyErr_Occurred() && impl == impl_of(self, tensor) && note(into, shapes, impl_of(self, tensor));
  };
  try {
    for (Py_ssize_t i = 0; fine && i < count; i++) {
      fine = add(seen[i], PyTuple_GET_ITEM(self->params, i));
      for (Py_ssize_t j = 0; fine && j < names; j++) {
        PyObject *state = PyTuple_GET_ITEM(self->states, i);
        PyObject *tensor = PyDict_GetItemWithError(state, PyTuple_GET_ITEM(self->names, j));
        fine = tensor != nullptr && add(seen[count + i * names + j], tensor);
      }
      versions.push_back(version_of(PyTuple_GET_ITEM(self->states, i)));
    }
    self->counted->clear();
    if (fine && self->steps != Py_None) {
      const float *steps = steps_of(self, count);
      fine = steps != nullptr;
      if (fine) self->counted->assign(steps, steps + count);
    }
  } catch (const std::exception &) {
    fine = false;
  }
  if (PyErr_Occurred()) PyErr_Clear();
  if (fine) {
    self->seen->swap(seen);
    self->shapes->swap(shapes);
    self->versions->swap(versions);
    PyObject *before = self->owned;
    self->owned = owned;
    Py_DECREF(before);
  } else {
    self->seen->clear();
    Py_DECREF(owned);
  }
  return PyBool_FromLong(fine);
}

bool holds(Snapshot *self) {
  const size_t count = PyTuple_GET_SIZE(self->params), names = PyTuple_GET_SIZE(self->names);
  const std::vector<Seen> &seen = *self->seen;
  if (seen.size() != count * (1 + names)) return false;
  for (size_t i = 0; i < AHEAD; i++) ask_for(seen, i);
  for (size_t i = 0; i < count; i++) {
    ask_for(seen, i + AHEAD);
    if (!as_before(self, seen[i], PyTuple_GET_ITEM(self->params, i))) return false;
  }
  for (size_t i = 0, k = count; i < count; i++) {
    PyObject *state = PyTuple_GET_ITEM(self->states, i);
    if (i + AHEAD < count) ask_for(PyTuple_GET_ITEM(self->states, i + AHEAD), 1);
    const uint64_t version = version_of(state);
    const bool untouched = version != 0 && version == (*self->versions)[i];
    for (size_t j = 0; j < names; j++, k++) {
      ask_for(seen, k + AHEAD);
      PyObject *tensor =
          untouched ? seen[k].object : PyDict_GetItemWithError(state, PyTuple_GET_ITEM(self->names, j));
      if (tensor == nullptr || !as_before(self, seen[k], tensor)) return false;
    }
  }
  if (self->steps == Py_None) return true;
  const float *steps = steps_of(self, count);
  for (size_t i = 0; steps != nullptr && i < count; i++)
    if (steps[i] != (*self->counted)[i]) return false;
  return steps != nullptr;
}

/* holds(): whether parameters and state are exactly what was noted, in the same places; step counts too. */
PyObject *snapshot_holds(PyObject *object, PyObject *) {
  bool found = false;
  try {
    found = holds(reinterpret_cast<Snapshot *>(object));
  } catch (const std::exception &) {
  }
  if (PyErr_Occurred()) PyErr_Clear();
  return PyBool_FromLong(found);
}

/* note_gradients(): note how the gradients are laid out; False where one is missing or can not be compared. */
PyObject *snapshot_note_gradients(PyObject *object, PyObject *) {
  Snapshot *self = reinterpret_cast<Snapshot *>(object);
  const size_t count = PyTuple_GET_SIZE(self->params);
  std::vector<Seen> seen(count);
  std::vector<int64_t> shapes;
  bool fine = self->seen->size() >= count;
  try {
    for (size_t i = 0; fine && i < count; i++) {
      const at::Tensor &gradient = impl_of(self, PyTuple_GET_ITEM(self->params, i))->grad();
      fine = gradient.defined() && note(seen[i], shapes, gradient.unsafeGetTensorImpl());
    }
  } catch (const std::exception &) {
    fine = false;
  }
  if (!fine) seen.clear();
  self->gradients->swap(seen);
  self->gradient_shapes->swap(shapes);
  return PyBool_FromLong(fine);
}

bool find(Snapshot *self, uint64_t *addresses) {
  const size_t count = PyTuple_GET_SIZE(self->params);
  std::vector<Seen> &seen = *self->gradients;
  std::vector<at::Tensor> &held = *self->held;
  if (seen.size() != count || self->seen->size() < count) return false;
  held.reserve(count);
  for (size_t i = 0; i < count; i++) {
    if (i + AHEAD < count) { /* most likely where it was; if not, nothing is lost */
      ask_for(seen[i + AHEAD].impl, 4);
      ask_for(seen[i + AHEAD].storage, 2);
    }
    PyObject *p = PyTuple_GET_ITEM(self->params, i);
    if (Py_TYPE(p) != (*self->seen)[i].type) return false;
    const at::Tensor &gradient = impl_of(self, p)->grad();
    if (!gradient.defined()) return false;
    c10::TensorImpl *impl = gradient.unsafeGetTensorImpl();
    if (!alike(seen[i], *self->gradient_shapes, impl)) return false;
    void *address = address_of(impl);
    if (address == nullptr && seen[i].bytes != 0) return false;
    addresses[i] = reinterpret_cast<uint64_t>(address);
    seen[i].impl = impl;
    seen[i].storage = impl->unsafe_storage().unsafeGetStorageImpl();
    held.push_back(gradient);
  }
  return true;
}

/* find_gradients(addresses): whether all parameters have gradients laid out as noted; they are kept until `release`,
   and where they begin is written into a writable vector of as many 64-bit numbers. */
PyObject *snapshot_find_gradients(PyObject *object, PyObject *argument) {
  Snapshot *self = reinterpret_cast<Snapshot *>(object);
  Py_buffer buffer;
  if (PyObject_GetBuffer(argument, &buffer, PyBUF_WRITABLE) != 0) return nullptr;
  if (buffer.len != 8 * PyTuple_GET_SIZE(self->params)) {
    PyBuffer_Release(&buffer);
    PyErr_SetString(PyExc_ValueError, "one 64-bit number for each parameter");
    return nullptr;
  }
  bool found = false;
  let_go(self);
  try {
    found = find(self, static_cast<uint64_t *>(buffer.buf));
  } catch (const std::exception &) {
  }
  if (!found) let_go(self);
  PyBuffer_Release(&buffer);
  return PyBool_FromLong(found);
}

/* advance(): add 1 to the steps of all parameters. Only after `holds` has said yes in the same step. */
PyObject *snapshot_advance(PyObject *object, PyObject *) {
  Snapshot *self = reinterpret_cast<Snapshot *>(object);
  const size_t count = self->counted->size();
  float *steps = nullptr;
  try {
    steps = count == 0 ? nullptr : steps_of(self, count);
    if (steps != nullptr) impl_of(self, self->steps)->bump_version();
  } catch (const std::exception &) {
  }
  if (count != 0 && steps == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "the step counts are gone");
    return nullptr;
  }
  for (size_t i = 0; i < count; i++) {
    steps[i] += 1.0f;
    (*self->counted)[i] += 1.0;
  }
  Py_RETURN_NONE;
}

/* written(): let autograd know that the parameters were written to. */
PyObject *snapshot_written(PyObject *object, PyObject *) {
  Snapshot *self = reinterpret_cast<Snapshot *>(object);
  const Py_ssize_t count = PyTuple_GET_SIZE(self->params);
  try {
    for (Py_ssize_t i = 0; i < count; i++) {
      c10::TensorImpl *impl = impl_of(self, PyTuple_GET_ITEM(self->params, i));
      if (!impl->is_inference()) impl->bump_version();
    }
  } catch (const std::exception &error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
  Py_RETURN_NONE;
}

/* release(): let the gradients go. */
PyObject *snapshot_release(PyObject *object, PyObject *) {
  let_go(reinterpret_cast<Snapshot *>(object));
  Py_RETURN_NONE;
}

/* Snapshot(params, states, names, steps, cdata, types) */
PyObject *snapshot_new(PyTypeObject *type, PyObject *arguments, PyObject *) {
  PyObject *params, *states, *names, *steps, *types;
  Py_ssize_t cdata;
  if (!PyArg_ParseTuple(arguments, "O!O!O!OnO!", &PyTuple_Type, &params, &PyTuple_Type, &states, &PyTuple_Type, &names,
                        &steps, &cdata, &PyTuple_Type, &types))
    return nullptr;
  const Py_ssize_t count = PyTuple_GET_SIZE(params);
  auto plain = [&](PyObject *one) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(types); i++)
      if (reinterpret_cast<PyObject *>(Py_TYPE(one)) == PyTuple_GET_ITEM(types, i)) return true;
    return false;
  };
  bool fine = PyTuple_GET_SIZE(states) == count && (steps == Py_None || plain(steps));
  for (Py_ssize_t i = 0; fine && i < count; i++) {
    PyObject *state = PyTuple_GET_ITEM(states, i);
    fine = plain(PyTuple_GET_ITEM(params, i)) && PyDict_CheckExact(state);
    for (Py_ssize_t j = 0; fine && j < PyTuple_GET_SIZE(names); j++) {
      PyObject *tensor = PyDict_GetItemWithError(state, PyTuple_GET_ITEM(names, j));
      fine = tensor != nullptr && plain(tensor);
    }
  }
  if (PyErr_Occurred()) return nullptr;
  if (!fine) {
    PyErr_SetString(PyExc_TypeError, "only plain tensors in plain dicts can be compared");
    return nullptr;
  }
  Snapshot *self = reinterpret_cast<Snapshot *>(type->tp_alloc(type, 0));
  if (self == nullptr) return nullptr;
  self->params = Py_NewRef(params);
  self->states = Py_NewRef(states);
  self->names = Py_NewRef(names);
  self->steps = Py_NewRef(steps);
  self->cdata = static_cast<size_t>(cdata);
  self->seen = new std::vector<Seen>();
  self->gradients = new std::vector<Seen>();
  self->shapes = new std::vector<int64_t>();
  self->gradient_shapes = new std::vector<int64_t>();
  self->versions = new std::vector<uint64_t>();
  self->counted = new std::vector<double>();
  self->held = new std::vector<at::Tensor>();
  self->owned = PyList_New(0);
  if (self->owned == nullptr) {
    Py_DECREF(self);
    return nullptr;
  }
  return reinterpret_cast<PyObject *>(self);
}

int snapshot_traverse(PyObject *object, visitproc visit, void *arg) {
  Snapshot *self = reinterpret_cast<Snapshot *>(object);
  Py_VISIT(Py_TYPE(object));
  Py_VISIT(self->owned);
  Py_VISIT(self->params);
  Py_VISIT(self->states);
  Py_VISIT(self->names);
  Py_VISIT(self->steps);
  return 0;
}

int snapshot_clear(PyObject *object) {
  Snapshot *self = reinterpret_cast<Snapshot *>(object);
  if (self->seen != nullptr) self->seen->clear(); /* nothing holds any more */
  if (self->gradients != nullptr) self->gradients->clear();
  Py_CLEAR(self->owned);
  return 0; /* the tuples stay whole until the end, so that no method meets a snapshot without them */
}

void snapshot_dealloc(PyObject *object) {
  Snapshot *self = reinterpret_cast<Snapshot *>(object);
  PyTypeObject *type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  delete self->seen;
  delete self->gradients;
  delete self->shapes;
  delete self->gradient_shapes;
  delete self->versions;
  delete self->counted;
  delete self->held;
  Py_XDECREF(self->owned);
  Py_XDECREF(self->params);
  Py_XDECREF(self->states);
  Py_XDECREF(self->names);
  Py_XDECREF(self->steps);
  type->tp_free(object);
  Py_DECREF(type);
}

PyMethodDef snapshot_methods[] = {
    {"note", snapshot_note, METH_NOARGS, nullptr},
    {"holds", snapshot_holds, METH_NOARGS, nullptr},
    {"note_gradients", snapshot_note_gradients, METH_NOARGS, nullptr},
    {"find_gradients", snapshot_find_gradients, METH_O, nullptr},
    {"advance", snapshot_advance, METH_NOARGS, nullptr},
    {"written", snapshot_written, METH_NOARGS, nullptr},
    {"release", snapshot_release, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot snapshot_slots[] = {
    {Py_tp_new, reinterpret_cast<void *>(snapshot_new)},
    {Py_tp_dealloc, reinterpret_cast<void *>(snapshot_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(snapshot_traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(snapshot_clear)},
    {Py_tp_methods, snapshot_methods},
    {0, nullptr},
};

PyType_Spec snapshot_spec = {"sooner_snapshot.Snapshot", sizeof(Snapshot), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, snapshot_slots};

/* same(now, before): whether two lists or tuples hold the same objects. */
PyObject *same(PyObject *, PyObject *const *arguments, Py_ssize_t count) {
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "two sequences");
    return nullptr;
  }
  PyObject *now = arguments[0], *before = arguments[1];
  if ((!PyList_Check(now) && !PyTuple_Check(now)) || (!PyList_Check(before) && !PyTuple_Check(before)))
    return PyBool_FromLong(0);
  const Py_ssize_t length = PySequence_Fast_GET_SIZE(now);
  bool alike = length == PySequence_Fast_GET_SIZE(before);
  for (Py_ssize_t i = 0; alike && i < length; i++)
    alike = PySequence_Fast_GET_ITEM(now, i) == PySequence_Fast_GET_ITEM(before, i);
  return PyBool_FromLong(alike);
}

/* same_items(mapping, keys, values): whether a dict holds these, in this order; both lists. */
PyObject *same_items(PyObject *, PyObject *const *arguments, Py_ssize_t count) {
  if (count != 3 || !PyList_CheckExact(arguments[1]) || !PyList_CheckExact(arguments[2])) {
    PyErr_SetString(PyExc_TypeError, "a mapping and two lists");
    return nullptr;
  }
  if (!PyDict_Check(arguments[0])) return PyBool_FromLong(0);
  const Py_ssize_t length = PyList_GET_SIZE(arguments[1]);
  bool alike = PyDict_GET_SIZE(arguments[0]) == length && PyList_GET_SIZE(arguments[2]) == length;
  Py_ssize_t position = 0, i = 0;
  PyObject *key, *value;
  while (alike && PyDict_Next(arguments[0], &position, &key, &value)) {
    alike = key == PyList_GET_ITEM(arguments[1], i) && value == PyList_GET_ITEM(arguments[2], i);
    i++;
  }
  return PyBool_FromLong(alike);
}

PyMethodDef functions[] = {
    {"same", reinterpret_cast<PyCFunction>(reinterpret_cast<void *>(same)), METH_FASTCALL, nullptr},
    {"same_items", reinterpret_cast<PyCFunction>(reinterpret_cast<void *>(same_items)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "sooner_snapshot", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_sooner_snapshot() {
  PyObject *made = PyModule_Create(&module);
  PyObject *type = made == nullptr ? nullptr : PyType_FromSpec(&snapshot_spec);
  if (type == nullptr || PyModule_AddObject(made, "Snapshot", type) != 0) {
    Py_XDECREF(type);
    Py_XDECREF(made);
    return nullptr;
  }
  return made;
}
