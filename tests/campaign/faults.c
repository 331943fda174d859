/* Stands between a process and the disk: counts what it does to files below one directory and, at the operation it is
 * told to, kills the process, tears a write, fills the disk, fails an fsync, or moves the clock.
 *
 *     cc -shared -fPIC -O2 -o faults.so faults.c -ldl         LD_PRELOAD=faults.so python ...
 *
 * Nothing happens until faults_arm() is called. An operation is any call that makes, opens for writing, writes, cuts,
 * flushes, renames or removes a file or directory below the root; threads of the process count together.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum action { COUNT, KILL, TEAR, FULL, FSYNC, READONLY, CLOCK };

static char root[PATH_MAX];
static long at = 0, seen = 0, jump = 0, clock_offset = 0;
static enum action action = COUNT;
static int journal = -1;

#define REAL(name) ({ static typeof(&name) real; if (!real) real = (typeof(&name))dlsym(RTLD_NEXT, #name); real; })

/* Begin to count. `below`: the directory; `number`: the operation, from 1, at which `what` happens (0: never);
 * `seconds`: how far CLOCK moves the wall clock; `log`: file that gets a line an operation, or NULL. */
void faults_arm(const char *below, long number, int what, long seconds, const char *log) {
  snprintf(root, sizeof root, "%s", below);
  at = number, action = what, jump = seconds, seen = 0;
  journal = log ? REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
}

long faults_seen(void) { return seen; }

static int watched(const char *path) {
  size_t n = strlen(root);
  return n && path && !strncmp(path, root, n) && (path[n] == '/' || path[n] == 0);
}

static const char *whole(int directory, const char *path, char *into) {
  char base[PATH_MAX] = "";
  if (!path) return NULL;
  if (path[0] == '/') return path;
  if (directory == AT_FDCWD) {
    if (!getcwd(base, sizeof base)) return NULL;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t n = readlink(link, base, sizeof base - 1);
    if (n < 0) return NULL;
    base[n] = 0;
  }
  snprintf(into, PATH_MAX, "%s/%s", base, path);
  return into;
}

static const char *of_descriptor(int descriptor, char *into) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t n = readlink(link, into, PATH_MAX - 1);
  if (n < 0) return NULL;
  into[n] = 0;
  return into;
}

/* What to do about an operation on `path`: 0 go on, 1 tear this write, else the errno to fail with. */
static int met(const char *name, const char *path, int needs_space) {
  if (!watched(path)) return 0;
  long number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
  if (journal >= 0) dprintf(journal, "%ld\t%s\t%s\n", number, name, path + strlen(root));
  if (!at || number < at) return 0;
  int is_fsync = !strcmp(name, "fsync");
  switch (action) {
    case KILL: if (number == at) { raise(SIGKILL); for (;;) pause(); } return 0;
    case TEAR: return number == at ? 1 : 0;
    case FULL: return needs_space ? ENOSPC : 0;                  /* from here on, until someone makes room */
    case FSYNC: return is_fsync && number == at ? EIO : 0;
    case READONLY: return EROFS;
    case CLOCK: if (number == at) clock_offset = jump; return 0;
    default: return 0;
  }
}

#define FAIL(wrong) if (wrong > 1) { errno = wrong; return -1; }

static int opened(const char *name, int directory, const char *path, int flags) {
  char into[PATH_MAX];
  if (!(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))) return 0;
  return met(name, whole(directory, path, into), flags & O_CREAT);
}

#define MODE_OF(flags) \
  mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE_OF(flags) FAIL(opened("open", AT_FDCWD, path, flags)) return REAL(open)(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) FAIL(opened("open", AT_FDCWD, path, flags)) return REAL(open64)(path, flags, mode); }
int openat(int d, const char *path, int flags, ...) { MODE_OF(flags) FAIL(opened("open", d, path, flags)) return REAL(openat)(d, path, flags, mode); }
int openat64(int d, const char *path, int flags, ...) { MODE_OF(flags) FAIL(opened("open", d, path, flags)) return REAL(openat64)(d, path, flags, mode); }

static int wanted(const char *mode) { return strpbrk(mode, "wa+") ? O_WRONLY | O_CREAT : 0; }
FILE *fopen(const char *path, const char *mode) {
  int wrong = opened("open", AT_FDCWD, path, wanted(mode));
  if (wrong > 1) { errno = wrong; return NULL; }
  return REAL(fopen)(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
  int wrong = opened("open", AT_FDCWD, path, wanted(mode));
  if (wrong > 1) { errno = wrong; return NULL; }
  return REAL(fopen64)(path, mode);
}

/* A write; torn: half of it reaches the disk, then the process is no more. */
#define WRITE(call, half) { \
  char into[PATH_MAX]; int wrong = root[0] ? met("write", of_descriptor(fd, into), 1) : 0; \
  FAIL(wrong) if (wrong == 1) { half; raise(SIGKILL); for (;;) pause(); } return call; }

ssize_t write(int fd, const void *data, size_t n) WRITE(REAL(write)(fd, data, n), REAL(write)(fd, data, n / 2))
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t o) WRITE(REAL(pwrite64)(fd, data, n, o), REAL(pwrite64)(fd, data, n / 2, o))
ssize_t writev(int fd, const struct iovec *v, int n) WRITE(REAL(writev)(fd, v, n), REAL(writev)(fd, v, n > 1 ? n / 2 : 0))
ssize_t sendfile(int fd, int from, off_t *o, size_t n) {
  static ssize_t (*real)(int, int, off_t *, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "sendfile");
  WRITE(real(fd, from, o, n), real(fd, from, o, n / 2)) }
ssize_t sendfile64(int fd, int from, off64_t *o, size_t n) {
  static ssize_t (*real)(int, int, off64_t *, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "sendfile64");
  WRITE(real(fd, from, o, n), real(fd, from, o, n / 2)) }
ssize_t copy_file_range(int from, off64_t *a, int fd, off64_t *b, size_t n, unsigned f)
  WRITE(REAL(copy_file_range)(from, a, fd, b, n, f), REAL(copy_file_range)(from, a, fd, b, n / 2, f))

#define ON_DESCRIPTOR(name, call, space) { \
  char into[PATH_MAX]; int wrong = root[0] ? met(name, of_descriptor(fd, into), space) : 0; FAIL(wrong) return call; }
int fsync(int fd) ON_DESCRIPTOR("fsync", REAL(fsync)(fd), 0)
int fdatasync(int fd) ON_DESCRIPTOR("fsync", REAL(fdatasync)(fd), 0)
int ftruncate64(int fd, off64_t n) ON_DESCRIPTOR("truncate", REAL(ftruncate64)(fd, n), 1)
int ftruncate(int fd, off_t n) ON_DESCRIPTOR("truncate", REAL(ftruncate)(fd, n), 1)
int fchmod(int fd, mode_t mode) ON_DESCRIPTOR("chmod", REAL(fchmod)(fd, mode), 0)

#define ON_PATH(name, directory, path, call, space) { \
  char into[PATH_MAX]; int wrong = met(name, whole(directory, path, into), space); FAIL(wrong) return call; }
int rename(const char *a, const char *b) ON_PATH("rename", AT_FDCWD, b, REAL(rename)(a, b), 0)
int renameat(int c, const char *a, int d, const char *b) ON_PATH("rename", d, b, REAL(renameat)(c, a, d, b), 0)
int renameat2(int c, const char *a, int d, const char *b, unsigned f) ON_PATH("rename", d, b, REAL(renameat2)(c, a, d, b, f), 0)
int link(const char *a, const char *b) ON_PATH("link", AT_FDCWD, b, REAL(link)(a, b), 1)
int symlink(const char *a, const char *b) ON_PATH("link", AT_FDCWD, b, REAL(symlink)(a, b), 1)
int unlink(const char *p) ON_PATH("unlink", AT_FDCWD, p, REAL(unlink)(p), 0)
int unlinkat(int d, const char *p, int f) ON_PATH("unlink", d, p, REAL(unlinkat)(d, p, f), 0)
int rmdir(const char *p) ON_PATH("rmdir", AT_FDCWD, p, REAL(rmdir)(p), 0)
int mkdir(const char *p, mode_t m) ON_PATH("mkdir", AT_FDCWD, p, REAL(mkdir)(p, m), 1)
int mkdirat(int d, const char *p, mode_t m) ON_PATH("mkdir", d, p, REAL(mkdirat)(d, p, m), 1)
int chmod(const char *p, mode_t m) ON_PATH("chmod", AT_FDCWD, p, REAL(chmod)(p, m), 0)
int fchmodat(int d, const char *p, mode_t m, int f) ON_PATH("chmod", d, p, REAL(fchmodat)(d, p, m, f), 0)

int clock_gettime(clockid_t which, struct timespec *now) {
  int done = REAL(clock_gettime)(which, now);
  if (which == CLOCK_REALTIME) now->tv_sec += clock_offset;
  return done;
}
int gettimeofday(struct timeval *now, void *zone) {
  int done = REAL(gettimeofday)(now, zone);
  now->tv_sec += clock_offset;
  return done;
}
time_t time(time_t *into) {
  time_t now = REAL(time)(NULL) + clock_offset;
  if (into) *into = now;
  return now;
}
