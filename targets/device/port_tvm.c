/* The runner as a library for TVM's RPC server: one function, `exchange(request, response)`, each a tensor of bytes on the
 * processor; it gives the bytes of the response, or a negative number for arguments that are none of that. The types are
 * those of TVM FFI's C interface (TVMFFIAny) and of DLPack (DLTensor); nothing of TVM is linked. */
#include "unfoldc_runner.h"

#include <stddef.h>

typedef struct {
    int32_t type;
    uint32_t zero;
    union {
        int64_t number;
        void *pointer;
    } value;
} tvm_any;

typedef struct {
    void *data;
    int32_t device_type;
    int32_t device;
    int32_t dimensions;
    uint8_t kind;
    uint8_t bits;
    uint16_t lanes;
    int64_t *shape;
    int64_t *strides;
    uint64_t offset;
} tvm_tensor;

enum { TVM_INT = 1, TVM_TENSOR_POINTER = 7, TVM_TENSOR = 70 };
enum { OBJECT_HEADER = 24, PROCESSOR = 1, UNSIGNED = 1 };

static const uint8_t *request;
static uint8_t *response;
static uint64_t request_left;
static uint64_t response_left;

int unfoldc_port_read(uint8_t *to, uint32_t n) {
    if (n > request_left) {
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        to[i] = request[i];
    }
    request += n;
    request_left -= n;
    return 1;
}

int unfoldc_port_write(const uint8_t *from, uint32_t n) {
    if (n > response_left) {
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        response[i] = from[i];
    }
    response += n;
    response_left -= n;
    return 1;
}

/* The bytes of an argument; NULL unless it is a vector of bytes in the processor's memory. */
static uint8_t *bytes_of(const tvm_any *argument, uint64_t *size) {
    const tvm_tensor *tensor = NULL;

    if (argument->type == TVM_TENSOR_POINTER) {
        tensor = (const tvm_tensor *)argument->value.pointer;
    } else if (argument->type == TVM_TENSOR) {
        tensor = (const tvm_tensor *)(const void *)((const uint8_t *)argument->value.pointer + OBJECT_HEADER);
    } else {
        return NULL;
    }
    if ((tensor->device_type != PROCESSOR) || (tensor->dimensions != 1) || (tensor->kind != UNSIGNED) ||
        (tensor->bits != 8u) || (tensor->lanes != 1u) || (tensor->shape[0] < 0)) {
        return NULL;
    }
    *size = (uint64_t)tensor->shape[0];
    return (uint8_t *)tensor->data + tensor->offset;
}

/* The name is what TVM looks up for a function called `exchange`. */
int __tvm_ffi_exchange(void *self, const tvm_any *arguments, int32_t count, tvm_any *result);

__attribute__((visibility("default"))) int __tvm_ffi_exchange(
        void *self, const tvm_any *arguments, int32_t count, tvm_any *result) {
    uint64_t space = 0u;

    (void)self;
    result->type = TVM_INT;
    result->zero = 0u;
    result->value.number = -1;
    if (count != 2) {
        return 0;
    }
    request = bytes_of(&arguments[0], &request_left);
    response = bytes_of(&arguments[1], &space);
    if ((request == NULL) || (response == NULL)) {
        return 0;
    }
    response_left = space;
    unfoldc_runner_serve();
    result->value.number = (int64_t)(space - response_left);
    return 0;
}
