/* Preloaded library: counts changes to a database's own file, by threads that hold the write lock and by others.
   In WAL mode only a checkpoint changes that file. WATCHED is the database's path, and COUNTS a file of two 64-bit
   numbers: locked, unlocked. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const char *database;
static _Atomic long *counts; /* shared by all processes */
static _Thread_local int locked;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("COUNTS");
    database = getenv("WATCHED");
    int fd = path && database ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    counts = mmap(NULL, 2 * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counts == MAP_FAILED) abort();
    close(fd);
}

static int is_open_on(int fd, const char *suffix) {
    char link[64], path[PATH_MAX], wanted[PATH_MAX];
    if (!counts) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = '\0';
    snprintf(wanted, sizeof wanted, "%s%s", database, suffix);
    return !strcmp(path, wanted);
}

int flock(int fd, int operation) {
    int failed = NEXT(flock)(fd, operation);
    if (!failed && is_open_on(fd, "-lock")) locked = (operation & LOCK_EX) != 0;
    return failed;
}

static void count(int fd) {
    if (is_open_on(fd, "")) counts[!locked]++;
}

#define POSITIONED_WRITE(name, offset_type) \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset) { \
        count(fd); \
        return NEXT(name)(fd, data, size, offset); \
    }
POSITIONED_WRITE(pwrite, off_t)
POSITIONED_WRITE(pwrite64, off64_t)

#define TRUNCATION(name, size_type) \
    int name(int fd, size_type size) { \
        count(fd); \
        return NEXT(name)(fd, size); \
    }
TRUNCATION(ftruncate, off_t)
TRUNCATION(ftruncate64, off64_t)
