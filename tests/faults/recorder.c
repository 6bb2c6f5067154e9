/* Preloaded library: records, in order, every change of this process to a folder's files, and makes chosen ones fail.

   A change is a creation, a write, a truncation, a sync, a removal or a rename. `disk/changes.py` reads the records: a
   byte for the kind, the lengths of name and data (4 bytes each), an offset (8 bytes), then name and data. Names are
   relative to the folder, whose own name is "". Shared memory (`-shm`) is left out: the first to open a database
   rebuilds it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_size;
static int recording = -1;

static long changes, first_failure, failures_left;
long failed;
static int failure;
static int halved;
static char failing[16];

static void put(char kind, const char *name, uint64_t offset, const void *data, uint32_t size) {
    if (recording < 0) return;
    unsigned char head[17];
    uint32_t name_size = strlen(name);
    head[0] = kind;
    memcpy(head + 1, &name_size, 4);
    memcpy(head + 5, &size, 4);
    memcpy(head + 9, &offset, 8);
    __typeof__(&write) next = NEXT(write);
    if (next(recording, head, sizeof head) < 0 || next(recording, name, name_size) < 0) return;
    if (size && next(recording, data, size) < 0) return;
}

/* Count changes to `path` from now on, and record them in `log`, unless that is "". */
void watch(const char *path, const char *log) {
    pthread_mutex_lock(&order);
    if (recording >= 0) NEXT(close)(recording), recording = -1;
    folder_size = snprintf(folder, sizeof folder, "%s", path);
    changes = first_failure = failures_left = failed = 0;
    if (*log) recording = NEXT(open64)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pthread_mutex_unlock(&order);
}

/* Record what was acknowledged to the caller, between the changes before and after. */
void acknowledge(const char *text) {
    pthread_mutex_lock(&order);
    put('A', "", 0, text, strlen(text));
    pthread_mutex_unlock(&order);
}

/* From change number `at` on, make the next `times` changes of the `kinds` (C, W, S, T, U or R) fail. If `half`, a
   failing write writes its first half. */
void fail(long at, long times, int error, int half, const char *kinds) {
    pthread_mutex_lock(&order);
    first_failure = at, failures_left = times, failure = error, halved = half, failed = 0;
    snprintf(failing, sizeof failing, "%s", kinds);
    pthread_mutex_unlock(&order);
}

/* The name of a file inside the folder, or NULL if it is outside or shared memory. */
static const char *inside(const char *path) {
    if (!folder_size || strncmp(path, folder, folder_size)) return NULL;
    const char *name = path + folder_size;
    if (*name == '/') name++;
    else if (*name) return NULL;
    size_t size = strlen(name);
    return size >= 4 && !strcmp(name + size - 4, "-shm") ? NULL : name;
}

static const char *name_of(int fd, char *path) {
    char link[64];
    if (!folder_size) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0) return NULL;
    path[size] = '\0';
    return inside(path);
}

static int fails(char kind) {
    if (++changes < first_failure || !failures_left || !strchr(failing, kind)) return 0;
    failures_left--, failed++;
    errno = failure;
    return 1;
}

static int open_one(const char *path, int flags, mode_t mode) {
    const char *name = flags & O_CREAT ? inside(path) : NULL;
    if (!name) return NEXT(open64)(path, flags, mode);
    pthread_mutex_lock(&order);
    int fd = -1, is_new = access(path, F_OK);
    if (!is_new || !fails('C')) {
        fd = NEXT(open64)(path, flags, mode);
        if (fd >= 0 && is_new) put('C', name, 0, NULL, 0);
    }
    pthread_mutex_unlock(&order);
    return fd;
}

#define OPENING(function) \
    int function(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        return open_one(path, flags, mode); \
    }
OPENING(open)
OPENING(open64)

static ssize_t write_one(int fd, const char *name, const void *data, size_t size, off64_t offset) {
    int is_failed = fails('W'), error = errno;
    ssize_t done = -1;
    if (!is_failed || (halved && size > 1))
        done = NEXT(pwrite64)(fd, data, is_failed ? size / 2 : size, offset);
    if (done > 0) put('W', name, offset, data, done);
    if (is_failed) errno = error;
    return is_failed ? -1 : done;
}

#define POSITIONED_WRITE(function, offset_type) \
    ssize_t function(int fd, const void *data, size_t size, offset_type offset) { \
        char path[PATH_MAX]; \
        const char *name = name_of(fd, path); \
        if (!name) return NEXT(function)(fd, data, size, offset); \
        pthread_mutex_lock(&order); \
        ssize_t done = write_one(fd, name, data, size, offset); \
        pthread_mutex_unlock(&order); \
        return done; \
    }
POSITIONED_WRITE(pwrite, off_t)
POSITIONED_WRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t size) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (!name) return NEXT(write)(fd, data, size);
    pthread_mutex_lock(&order);
    int to_the_end = fcntl(fd, F_GETFL) & O_APPEND;
    ssize_t done = write_one(fd, name, data, size, lseek64(fd, 0, to_the_end ? SEEK_END : SEEK_CUR));
    if (done > 0) lseek64(fd, done, to_the_end ? SEEK_END : SEEK_CUR);
    pthread_mutex_unlock(&order);
    return done;
}

/* A failed sync leaves the pages marked clean, so that they never reach the disk. */
#define SYNC(function) \
    int function(int fd) { \
        char path[PATH_MAX]; \
        const char *name = name_of(fd, path); \
        if (!name) return NEXT(function)(fd); \
        pthread_mutex_lock(&order); \
        int done = -1; \
        if (fails('S')) { \
            int error = errno; \
            put('F', name, 0, NULL, 0); \
            errno = error; \
        } else { \
            done = NEXT(function)(fd); \
            if (!done) put('S', name, 0, NULL, 0); \
        } \
        pthread_mutex_unlock(&order); \
        return done; \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATION(function, size_type) \
    int function(int fd, size_type size) { \
        char path[PATH_MAX]; \
        const char *name = name_of(fd, path); \
        if (!name) return NEXT(function)(fd, size); \
        pthread_mutex_lock(&order); \
        int done = fails('T') ? -1 : NEXT(function)(fd, size); \
        if (!done) put('T', name, size, NULL, 0); \
        pthread_mutex_unlock(&order); \
        return done; \
    }
TRUNCATION(ftruncate, off_t)
TRUNCATION(ftruncate64, off64_t)

int unlink(const char *path) {
    const char *name = inside(path);
    if (!name || access(path, F_OK)) return NEXT(unlink)(path);
    pthread_mutex_lock(&order);
    int done = fails('U') ? -1 : NEXT(unlink)(path);
    if (!done) put('U', name, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    return done;
}

/* Give a file a new name; keep the old one if `kept`. */
static int name_anew(const char *from, const char *to, int kept, int (*next)(const char *, const char *)) {
    const char *old = inside(from), *new = inside(to);
    if (!old || !new) return next(from, to);
    pthread_mutex_lock(&order);
    int done = fails('R') ? -1 : next(from, to);
    if (!done) put(kept ? 'L' : 'R', old, 0, new, strlen(new));
    pthread_mutex_unlock(&order);
    return done;
}

int rename(const char *from, const char *to) { return name_anew(from, to, 0, NEXT(rename)); }
int link(const char *from, const char *to) { return name_anew(from, to, 1, NEXT(link)); }
