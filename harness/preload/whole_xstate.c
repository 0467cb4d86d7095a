/*
 * Lets the user space of User-Mode Linux start on processors with AMX:
 * LD_PRELOAD=FILE linux.uml …
 *
 * UML keeps the extended registers of its processes in a buffer of a fixed length. Since AMX there
 * are more of them than fit. The host gives as many as there is room for, but takes nothing less
 * than all: PTRACE_SETREGSET with the short buffer fails, and the process dies.
 *
 * This ptrace reads all of them first, puts what UML has over their beginning, and sets them all.
 * What UML has no room for stays as it is in the process. Everything else goes to the kernel as it
 * comes. UML's own kernel runs on one thread at a time, so that one buffer is enough; its stacks
 * are too short for one.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* AMX takes 11 KiB, and all that is to come has to fit. */
static unsigned char whole[64 * 1024];

static long set_registers(long pid, const struct iovec *part)
{
    struct iovec all = { .iov_base = whole, .iov_len = sizeof whole };
    long got = syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all);

    if (got != 0 || part->iov_len >= all.iov_len)
        return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, part);
    memcpy(whole, part->iov_base, part->iov_len);
    return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;
    long pid, result, word;
    void *address, *data;

    va_start(arguments, request);
    pid = va_arg(arguments, long);
    address = va_arg(arguments, void *);
    data = va_arg(arguments, void *);
    va_end(arguments);
    switch (request) {
    case PTRACE_SETREGSET:
        if ((long) address == NT_X86_XSTATE && data)
            return set_registers((int) pid, data);
        break;
    case PTRACE_PEEKTEXT:
    case PTRACE_PEEKDATA:
    case PTRACE_PEEKUSER:
        /* The kernel stores the word; the C library gives it back. */
        result = syscall(SYS_ptrace, request, (int) pid, address, &word);
        if (result < 0)
            return result;
        errno = 0;
        return word;
    default:
        break;
    }
    return syscall(SYS_ptrace, request, (int) pid, address, data);
}
