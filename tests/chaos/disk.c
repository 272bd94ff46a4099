/* A disk that fails, for a process that is started with this library in LD_PRELOAD.
 *
 * CHAOS_DISK_DIR  only files below this directory are touched
 * CHAOS_DISK_RULE a file that says what the disk does now, read anew every few calls:
 *     fine            everything works
 *     fsync-fails     fsync and fdatasync fail with EIO
 *     full            writes fail with ENOSPC
 *     slow MS         every fsync and fdatasync takes so much longer
 *     flip            one bit of each read of 512 bytes or more is flipped, once in 64 reads
 *     note MS         what each write replaces is noted, so that what was never synced can be undone;
 *                     every sync takes so much longer, so that there is something to undo
 * CHAOS_DISK_SEEN a file to which a byte is appended for each call that met the rule
 * CHAOS_DISK_UNDO a file for the notes. Each begins with five numbers of 64 bits:
 *     1, inode, offset, bytes, size   a write; `size` is the file's before it. The bytes follow that
 *                                     were there, as far as the file had any
 *     2, inode, position, 0, 0        all writes to the file that are noted before `position` are
 *                                     durable
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum rule { FINE, FSYNC_FAILS, FULL, SLOW, FLIP, NOTE };

static _Atomic int rule = FINE;
static _Atomic long slow_ms = 0;
static _Atomic long checked_ms = 0;
static _Atomic unsigned reads = 0;

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static ssize_t raw_read(int fd, void *buffer, size_t bytes) {
    REAL(read);
    return real(fd, buffer, bytes);
}

static ssize_t raw_write(int fd, const void *buffer, size_t bytes) {
    REAL(write);
    return real(fd, buffer, bytes);
}

/* Reads the rule, at most every 20 ms. */
static enum rule present(void) {
    long now = now_ms(), last = atomic_load(&checked_ms);
    if (now - last < 20 || !atomic_compare_exchange_strong(&checked_ms, &last, now)) return rule;
    const char *path = getenv("CHAOS_DISK_RULE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    char text[64] = {0};
    if (fd >= 0) {
        if (raw_read(fd, text, sizeof text - 1) < 0) text[0] = 0;
        close(fd);
    }
    long ms = 0;
    if (!strncmp(text, "fsync-fails", 11)) rule = FSYNC_FAILS;
    else if (!strncmp(text, "full", 4)) rule = FULL;
    else if (sscanf(text, "slow %ld", &ms) == 1) rule = SLOW;
    else if (!strncmp(text, "flip", 4)) rule = FLIP;
    else if (sscanf(text, "note %ld", &ms) == 1) rule = NOTE;
    else rule = FINE;
    slow_ms = ms;
    return rule;
}

static int is_ours(int fd) {
    const char *dir = getenv("CHAOS_DISK_DIR");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!dir || length <= 0) return 0;
    path[length] = 0;
    return !strncmp(path, dir, strlen(dir));
}

static void seen(void) {
    const char *path = getenv("CHAOS_DISK_SEEN");
    int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (fd < 0) return;
    if (raw_write(fd, "x", 1) < 0) { /* Nobody counts it then. */ }
    close(fd);
}

/* A write and its note are one step, so that notes are in the order of writes. */
static pthread_mutex_t noting = PTHREAD_MUTEX_INITIALIZER;

static int notes(void) {
    const char *path = getenv("CHAOS_DISK_UNDO");
    return path ? open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
}

static void note(int to, uint64_t head[5], const void *bytes, size_t count) {
    if (raw_write(to, head, 5 * sizeof *head) < 0) return;
    if (count && raw_write(to, bytes, count) < 0) return;
}

/* Notes what a write of `bytes` at `at` replaces. */
static void note_write(int fd, size_t bytes, off_t at) {
    struct stat file;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int to = notes(), from = open(link, O_RDONLY | O_CLOEXEC);
    char *old = malloc(bytes ? bytes : 1);
    if (to >= 0 && from >= 0 && old && !fstat(fd, &file)) {
        static __typeof__(&pread) real;
        if (!real) real = (__typeof__(&pread))dlsym(RTLD_NEXT, "pread");
        ssize_t had = real(from, old, bytes, at);
        if (had < 0) had = 0;
        uint64_t head[5] = {1, file.st_ino, at, had, file.st_size};
        note(to, head, old, had);
    }
    free(old);
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    seen();
}

/* How long the notes are. */
static off_t noted(void) {
    int to = notes();
    if (to < 0) return 0;
    off_t end = lseek(to, 0, SEEK_END);
    close(to);
    return end;
}

static void note_sync(int fd, off_t position) {
    struct stat file;
    int to = notes();
    if (to >= 0 && !fstat(fd, &file)) {
        uint64_t head[5] = {2, file.st_ino, position, 0, 0};
        note(to, head, 0, 0);
    }
    if (to >= 0) close(to);
}

/* 0 if the call may go on; else errno is set. */
static int before_sync(int fd) {
    enum rule now = present();
    if (now != FSYNC_FAILS && now != SLOW && now != NOTE) return 0;
    if (!is_ours(fd)) return 0;
    int saved = errno;
    seen();
    errno = saved;
    if (now != FSYNC_FAILS) {
        usleep(slow_ms * 1000);
        return 0;
    }
    errno = EIO;
    return -1;
}

static int before_write(int fd) {
    if (present() != FULL || !is_ours(fd)) return 0;
    seen();
    errno = ENOSPC;
    return -1;
}

static void after_read(int fd, void *buffer, ssize_t bytes) {
    if (bytes < 512 || present() != FLIP || !is_ours(fd)) return;
    unsigned number = atomic_fetch_add(&reads, 1);
    if (number % 64) return;
    ((unsigned char *)buffer)[number * 2654435761u % (unsigned)bytes] ^= 1u << (number / 64 % 8);
    seen();
}

static int sync_by(int (*real)(int), int fd) {
    if (before_sync(fd)) return -1;
    int is_noted = present() == NOTE && is_ours(fd);
    off_t position = 0;
    if (is_noted) {
        pthread_mutex_lock(&noting);
        position = noted();
        pthread_mutex_unlock(&noting);
    }
    int failed = real(fd);
    if (is_noted && !failed) {
        pthread_mutex_lock(&noting);
        note_sync(fd, position);
        pthread_mutex_unlock(&noting);
    }
    return failed;
}

int fsync(int fd) {
    REAL(fsync);
    return sync_by(real, fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return sync_by(real, fd);
}

ssize_t write(int fd, const void *buffer, size_t bytes) {
    if (before_write(fd)) return -1;
    if (present() != NOTE || !is_ours(fd)) return raw_write(fd, buffer, bytes);
    pthread_mutex_lock(&noting);
    struct stat file;
    int is_at_end = fcntl(fd, F_GETFL) & O_APPEND;
    off_t at = is_at_end && !fstat(fd, &file) ? file.st_size : lseek(fd, 0, SEEK_CUR);
    note_write(fd, bytes, at < 0 ? 0 : at);
    ssize_t written = raw_write(fd, buffer, bytes);
    pthread_mutex_unlock(&noting);
    return written;
}

typedef ssize_t (*pwrite_call)(int, const void *, size_t, off_t);

static ssize_t write_at_by(pwrite_call real, int fd, const void *buffer, size_t bytes, off_t at) {
    if (before_write(fd)) return -1;
    if (present() != NOTE || !is_ours(fd)) return real(fd, buffer, bytes, at);
    pthread_mutex_lock(&noting);
    note_write(fd, bytes, at);
    ssize_t written = real(fd, buffer, bytes, at);
    pthread_mutex_unlock(&noting);
    return written;
}

ssize_t pwrite(int fd, const void *buffer, size_t bytes, off_t at) {
    REAL(pwrite);
    return write_at_by(real, fd, buffer, bytes, at);
}

ssize_t pwrite64(int fd, const void *buffer, size_t bytes, off64_t at) {
    REAL(pwrite64);
    return write_at_by((pwrite_call)real, fd, buffer, bytes, at);
}

ssize_t pread(int fd, void *buffer, size_t bytes, off_t at) {
    REAL(pread);
    ssize_t got = real(fd, buffer, bytes, at);
    after_read(fd, buffer, got);
    return got;
}

ssize_t pread64(int fd, void *buffer, size_t bytes, off64_t at) {
    REAL(pread64);
    ssize_t got = real(fd, buffer, bytes, at);
    after_read(fd, buffer, got);
    return got;
}

int posix_fallocate64(int fd, off64_t at, off64_t bytes) {
    REAL(posix_fallocate64);
    return before_write(fd) ? ENOSPC : real(fd, at, bytes);
}

int fallocate64(int fd, int mode, off64_t at, off64_t bytes) {
    REAL(fallocate64);
    return before_write(fd) ? -1 : real(fd, mode, at, bytes);
}
