/* The runner as a library for TVM's RPC server. It exports one function, `exchange(request, response, seconds)`: tensors of
 * bytes in the processor's memory, and how long an answer may take (0 or left out: any time). It gives the bytes of the
 * response; -1 for other arguments, -2 where there is no process, -1000 - status (as of waitpid) when it has ended.
 *
 * The solver runs in a process of its own, which the first call starts: a crash or an endless loop in it would take TVM's
 * server with it. The types are those of TVM FFI's C interface (TVMFFIAny) and of DLPack (DLTensor); nothing of TVM is
 * linked. */
#define _POSIX_C_SOURCE 200112L
#include "port_posix.h"
#include "unfoldc_runner.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

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

enum { HEADER = 16, FRAME = 20, MOST_FILES = 1024 };

static pid_t child;
static int to_child;
static int from_child;

/* Becomes the runner; the server's connections must not stay open here. */
static void run_child(int in, int out, unsigned int seconds) {
    (void)dup2(in, STDIN_FILENO);
    (void)dup2(out, STDOUT_FILENO);
    for (int file = 3; file < MOST_FILES; file++) {
        (void)close(file);
    }
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    unfoldc_port_limit(seconds);
    unfoldc_runner_serve();
    _exit(0);
}

static int start_child(unsigned int seconds) {
    int down[2];
    int up[2];

    if (pipe(down) != 0) {
        return 0;
    }
    if (pipe(up) != 0) {
        (void)close(down[0]);
        (void)close(down[1]);
        return 0;
    }
    child = fork();
    if (child == 0) {
        run_child(down[0], up[1], seconds);
    }
    (void)close(down[0]);
    (void)close(up[1]);
    if (child < 0) {
        (void)close(down[1]);
        (void)close(up[0]);
        child = 0;
        return 0;
    }
    to_child = down[1];
    from_child = up[0];
    return 1;
}

/* Waits for the child, which has closed its pipes or broken the protocol; the result of `exchange`. */
static int64_t end_child(void) {
    int status = 0;

    (void)close(to_child);
    (void)close(from_child);
    (void)waitpid(child, &status, 0);
    child = 0;
    return -1000 - (int64_t)status;
}

static int send_all(const uint8_t *bytes, uint64_t n) {
    uint64_t done = 0u;

    while (done < n) {
        const ssize_t sent = write(to_child, &bytes[done], (size_t)(n - done));
        if (sent > 0) {
            done += (uint64_t)sent;
        } else if ((sent == 0) || (errno != EINTR)) {
            return 0;
        } else {
            /* interrupted: again */
        }
    }
    return 1;
}

static int receive_all(uint8_t *bytes, uint64_t n) {
    uint64_t done = 0u;

    while (done < n) {
        const ssize_t got = read(from_child, &bytes[done], (size_t)(n - done));
        if (got > 0) {
            done += (uint64_t)got;
        } else if ((got == 0) || (errno != EINTR)) {
            return 0;
        } else {
            /* interrupted: again */
        }
    }
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
    uint64_t size = 0u;
    uint64_t space = 0u;
    uint64_t length;
    const uint8_t *request;
    uint8_t *response;

    (void)self;
    result->type = TVM_INT;
    result->zero = 0u;
    result->value.number = -1;
    if ((count < 2) || (count > 3) || ((count == 3) && (arguments[2].type != TVM_INT))) {
        return 0;
    }
    request = bytes_of(&arguments[0], &size);
    response = bytes_of(&arguments[1], &space);
    if ((request == NULL) || (response == NULL) || (space < FRAME)) {
        return 0;
    }
    if ((child == 0) && !start_child((count == 3) ? (unsigned int)arguments[2].value.number : 0u)) {
        result->value.number = -2;
        return 0;
    }
    if (!send_all(request, size) || !receive_all(response, HEADER)) {
        result->value.number = end_child();
        return 0;
    }
    length = (uint64_t)response[8] | (uint64_t)response[9] << 8 | (uint64_t)response[10] << 16 |
             (uint64_t)response[11] << 24;
    if ((length > (space - FRAME)) || !receive_all(&response[HEADER], length + (FRAME - HEADER))) {
        result->value.number = end_child();
        return 0;
    }
    result->value.number = (int64_t)(FRAME + length);
    return 0;
}
