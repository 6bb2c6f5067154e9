/* Preloaded library: kills the process by SIGKILL just before, or halfway through, its n-th change to a folder's files.
   A change is a write, a truncation, a sync, a mkdir, a link, a removal or a rename. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long changes, last_change;
static int in_the_middle;

/* Count from now on and kill before change number `at`, or never if 0. If `half`, a write is half done first. */
void arm(const char *path, long at, int half) {
    snprintf(folder, sizeof folder, "%s/", path);
    changes = 0, last_change = at, in_the_middle = half;
}

long changes_made(void) { return changes; }

static int is_ours(int fd) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = '\0';
    return !strncmp(path, folder, strlen(folder)) || !strncmp(path, folder, strlen(folder) - 1);
}

static int is_the_last(int ours) { return ours && ++changes == last_change; }
static void end(void) { kill(getpid(), SIGKILL); }

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define POSITIONED_WRITE(name, offset_type) \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset) { \
        if (is_the_last(is_ours(fd))) { \
            if (in_the_middle) NEXT(name)(fd, data, size / 2, offset); \
            end(); \
        } \
        return NEXT(name)(fd, data, size, offset); \
    }
POSITIONED_WRITE(pwrite, off_t)
POSITIONED_WRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t size) {
    if (is_the_last(is_ours(fd))) end();
    return NEXT(write)(fd, data, size);
}

#define ON_DESCRIPTOR(name) \
    int name(int fd) { \
        if (is_the_last(is_ours(fd))) end(); \
        return NEXT(name)(fd); \
    }
ON_DESCRIPTOR(fsync)
ON_DESCRIPTOR(fdatasync)

#define TRUNCATION(name, size_type) \
    int name(int fd, size_type size) { \
        if (is_the_last(is_ours(fd))) end(); \
        return NEXT(name)(fd, size); \
    }
TRUNCATION(ftruncate, off_t)
TRUNCATION(ftruncate64, off64_t)

static int is_named(const char *path) { return folder[0] && !strncmp(path, folder, strlen(folder)); }

int unlink(const char *path) {
    if (is_the_last(is_named(path))) end();
    return NEXT(unlink)(path);
}

int unlinkat(int fd, const char *path, int flags) {
    if (is_the_last(is_named(path) || (path[0] != '/' && is_ours(fd)))) end();
    return NEXT(unlinkat)(fd, path, flags);
}

int rmdir(const char *path) {
    if (is_the_last(is_named(path))) end();
    return NEXT(rmdir)(path);
}

int mkdir(const char *path, mode_t mode) {
    if (is_the_last(is_named(path))) end();
    return NEXT(mkdir)(path, mode);
}

int link(const char *from, const char *to) {
    if (is_the_last(is_named(to))) end();
    return NEXT(link)(from, to);
}

int rename(const char *from, const char *to) {
    if (is_the_last(is_named(from))) end();
    return NEXT(rename)(from, to);
}
