/* kubeq-exec: the first program in a task's container.
 *
 *   kubeq-exec run [--gate FIFO] [--cd DIR] -- ARGV...   join stderr to stdout, then become ARGV
 *   kubeq-exec own UID GID DIR                           give DIR and all below it to UID:GID
 *   kubeq-exec pause                                     hold a network namespace until SIGTERM or SIGINT
 *
 * Why `run`: an engine gives a container one pipe for stdout and one for stderr, and the order of what was written to
 * them is lost. With both on one pipe the kernel keeps it. Nothing of the container's image is needed for that, so this
 * program uses no libc: it is mounted read-only into whatever image the task names, however small.
 *
 * Why `--gate`: starting a container takes longer than many a task, so it is done ahead. The command waits at a named pipe
 * until the agent writes a byte into it, and never runs if the agent, which holds the other end, is gone.
 *
 * Why `own`: a task that ran as another user leaves files that the submitting user may not even delete.
 *
 * What went wrong is said in one line on stdout, which is the task's log, because stderr need not be anybody's.
 * Exit codes of its own: 125 wrong usage, 126 found but cannot be run, 127 not found (as in sh and env); `own` 0 or 1.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

typedef unsigned int u32;
typedef unsigned long u64;
typedef unsigned short u16;

/* ---- the kernel's interface: numbers from its uapi headers ---- */

#if defined(__x86_64__)

enum {
    SYS_read = 0, SYS_write = 1, SYS_close = 3, SYS_rt_sigprocmask = 14, SYS_execve = 59, SYS_wait4 = 61, SYS_fcntl = 72,
    SYS_chdir = 80, SYS_rt_sigtimedwait = 128, SYS_getdents64 = 217, SYS_exit_group = 231, SYS_openat = 257,
    SYS_fchownat = 260, SYS_faccessat = 269, SYS_dup3 = 292, SYS_prlimit64 = 302, SYS_statx = 332,
};
enum { O_DIRECTORY = 0x10000, O_NOFOLLOW = 0x20000 };

static long call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

__asm__(".text\n.globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");

#elif defined(__aarch64__)

enum {
    SYS_dup3 = 24, SYS_fcntl = 25, SYS_faccessat = 48, SYS_chdir = 49, SYS_fchownat = 54, SYS_openat = 56,
    SYS_close = 57, SYS_getdents64 = 61, SYS_read = 63, SYS_write = 64, SYS_exit_group = 94, SYS_rt_sigprocmask = 135,
    SYS_rt_sigtimedwait = 137, SYS_execve = 221, SYS_wait4 = 260, SYS_prlimit64 = 261, SYS_statx = 291,
};
enum { O_DIRECTORY = 0x4000, O_NOFOLLOW = 0x8000 };

static long call(long number, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}

__asm__(".text\n.globl _start\n_start:\n mov x29, #0\n mov x30, #0\n mov x0, sp\n and sp, x0, #-16\n bl begin\n");

#else
#error "kubeq-exec is written for x86_64 and aarch64"
#endif

enum { O_RDONLY = 0, O_RDWR = 2, O_NONBLOCK = 04000, O_CLOEXEC = 02000000, O_PATH = 010000000 };
enum { AT_FDCWD = -100, AT_SYMLINK_NOFOLLOW = 0x100, AT_EMPTY_PATH = 0x1000, F_GETFD = 1, F_SETFL = 4, F_OK = 0 };
enum { EPERM = 1, ENOENT = 2, EINTR = 4, E2BIG = 7, ENOEXEC = 8, EBADF = 9, EACCES = 13, ENODEV = 19, ENOTDIR = 20, EMFILE = 24,
       ETXTBSY = 26, EROFS = 30, ENAMETOOLONG = 36, ELOOP = 40, ETIMEDOUT = 110, ESTALE = 116 };
enum { SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, SIG_BLOCK = 0, WNOHANG = 1, RLIMIT_NOFILE = 7 };
enum { STATX_UID = 0x8, STATX_GID = 0x10, STATX_ATTR_MOUNT_ROOT = 0x2000, DT_UNKNOWN = 0, DT_DIR = 4 };

struct dirent64 {
    u64 inode;
    u64 offset;
    u16 length;
    unsigned char type;
    char name[];
};

struct statx {
    u32 mask, block_size;
    u64 attributes;
    u32 links, uid, gid;
    u16 mode, spare;
    u64 inode, size, blocks, attributes_mask;
    u64 rest[24];
};

enum { PATH_LIMIT = 4096, NAME_LIMIT = 255 };
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define P(pointer) ((long)(pointer))

__attribute__((noreturn)) static void leave(int code)
{
    for (;;)
        call(SYS_exit_group, code, 0, 0, 0, 0);
}

/* ---- words ---- */

static u64 length_of(const char *s)
{
    u64 n = 0;
    while (s[n])
        n++;
    return n;
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static int has_slash(const char *s)
{
    for (; *s; s++)
        if (*s == '/')
            return 1;
    return 0;
}

/* A decimal number that fits a user or group id: 0 to 2^32 - 2 (the last one means "leave as it is" to chown). */
static int parse_id(const char *s, u32 *id)
{
    u64 value = 0;
    if (!*s)
        return 0;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || value > 429496729)
            return 0;
        value = value * 10 + (u64)(*s - '0');
    }
    *id = (u32)value;
    return value < 0xffffffff;
}

/* ---- one line to say, written in one piece ---- */

static struct {
    char text[2 * PATH_LIMIT];
    u64 used;
} line;

static void add_byte(char c)
{
    if (line.used < sizeof line.text - 1)
        line.text[line.used++] = c;
}

static void add(const char *s)
{
    for (; *s; s++)
        add_byte(*s);
}

/* A word from outside: in quotes, without control characters, cut where it is absurdly long. */
static void add_quoted(const char *s)
{
    u64 n = 0;
    add_byte('\'');
    for (; s[n] && n < 1000; n++)
        add_byte((unsigned char)s[n] < ' ' || s[n] == 127 ? '?' : s[n]);
    if (s[n])
        add("...");
    add_byte('\'');
}

static void add_number(u64 value)
{
    char digits[24];
    int n = sizeof digits - 1;
    digits[n] = 0;
    do
        digits[--n] = (char)('0' + value % 10);
    while (value /= 10);
    add(digits + n);
}

static void add_error(long error)
{
    switch (error) {
    case EPERM: add("operation not permitted"); break;
    case ENOENT: add("no such file or directory"); break;
    case E2BIG: add("the arguments and environment are too long"); break;
    case EACCES: add("permission denied"); break;
    case ENOTDIR: add("not a directory"); break;
    case EMFILE: add("too many open files"); break;
    case ETXTBSY: add("it is being written"); break;
    case EROFS: add("read-only file system"); break;
    case ENAMETOOLONG: add("name too long"); break;
    case ELOOP: add("too many symbolic links"); break;
    default: add("error "); add_number((u64)error);
    }
}

static void say(void)
{
    u64 done = 0;
    add_byte('\n');
    line.text[line.used - 1] = '\n';
    while (done < line.used) {
        long n = call(SYS_write, 1, P(line.text + done), (long)(line.used - done), 0, 0);
        if (n <= 0)
            break;
        done += (u64)n;
    }
    line.used = 0;
}

/* ---- run ---- */

static const char *path_of(char **environment)
{
    for (; *environment; environment++) {
        const char *e = *environment;
        if (e[0] == 'P' && e[1] == 'A' && e[2] == 'T' && e[3] == 'H' && e[4] == '=')
            return e + 5;
    }
    return DEFAULT_PATH;
}

static int exists(const char *file) { return call(SYS_faccessat, AT_FDCWD, P(file), F_OK, 0, 0) == 0; }

static int is_directory(const char *file)
{
    long fd = call(SYS_openat, AT_FDCWD, P(file), O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);
    if (fd >= 0)
        call(SYS_close, fd, 0, 0, 0, 0);
    return fd >= 0;
}

/* Says why `file` (what was typed: `word`) could not be run, and ends with the code for that. */
__attribute__((noreturn)) static void refuse(const char *word, const char *file, long error)
{
    add("kubeq: cannot run ");
    add_quoted(word);
    add(": ");
    if (error == ENOENT && !exists(file)) {
        add(has_slash(word) ? "no such file" : "not found in PATH");
        say();
        leave(127);
    }
    if (!same(word, file)) {
        add_quoted(file);
        add_byte(' ');
    }
    switch (error) {
    case ENOENT: add("needs an interpreter or loader that does not exist here"); break;
    case ENOEXEC: add("is neither a program for this machine nor a script that begins with #!"); break;
    case EACCES: add(is_directory(file) ? "is a directory" : "is not executable for this user"); break;
    default: add("cannot be executed: "); add_error(error);
    }
    say();
    leave(error == ENOTDIR ? 127 : 126);
}

/* Errors after which execvp(3) goes on to the next directory of PATH. */
static int is_skipped(long error)
{
    return error == ENOENT || error == EACCES || error == ENOTDIR || error == ENODEV || error == ESTALE ||
           error == ETIMEDOUT;
}

/* As execvp(3), but that a file in no known format is not given to a shell. Does not return. */
__attribute__((noreturn)) static void execute(char **argv, char **environment)
{
    static char candidate[PATH_LIMIT], refused[PATH_LIMIT];
    const char *word = argv[0], *path = path_of(environment);
    u64 size = length_of(word), i;
    long refusal = 0;

    if (!size || has_slash(word))
        refuse(word, word, size ? -call(SYS_execve, P(word), P(argv), P(environment), 0, 0) : ENOENT);
    if (size > NAME_LIMIT)
        refuse(word, word, ENAMETOOLONG);
    for (;; path++) {
        u64 n = 0;
        int fits = 1;
        for (; *path && *path != ':'; path++)
            if (n + size + 2 < PATH_LIMIT)
                candidate[n++] = *path;
            else
                fits = 0;
        if (n) /* an empty element is the current directory */
            candidate[n++] = '/';
        for (i = 0; i <= size; i++)
            candidate[n++] = word[i];
        if (fits) {
            long error = -call(SYS_execve, P(candidate), P(argv), P(environment), 0, 0);
            if (!is_skipped(error))
                refuse(word, candidate, error);
            if (!refusal && exists(candidate) && !is_directory(candidate)) {
                refusal = error;
                for (i = 0; i < n; i++)
                    refused[i] = candidate[i];
            }
        }
        if (!*path)
            break;
    }
    if (refusal)
        refuse(word, refused, refusal);
    refuse(word, "", ENOENT);
}

/* Says why it never came to running the command. */
__attribute__((noreturn)) static void give_up(const char *what, const char *name, const char *why)
{
    add("kubeq: cannot ");
    add(what);
    add_byte(' ');
    add_quoted(name);
    add(": ");
    add(why);
    say();
    leave(126);
}

/* Returns when a byte comes through the pipe. The opening does not wait for its other end, so that it cannot wait for
 * an agent that died; the reading waits as long as there is one. */
static void wait_at(const char *gate)
{
    char byte;
    long n, fd = call(SYS_openat, AT_FDCWD, P(gate), O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, 0);
    if (fd < 0)
        give_up("open the gate", gate, fd == -ENOENT ? "no such file" : "it cannot be read");
    call(SYS_fcntl, fd, F_SETFL, 0, 0, 0);
    do
        n = call(SYS_read, fd, P(&byte), 1, 0, 0);
    while (n == -EINTR);
    call(SYS_close, fd, 0, 0, 0, 0);
    if (n != 1)
        give_up("pass the gate", gate, "whoever was to open it is gone");
}

__attribute__((noreturn)) static void run(char **argv, char **environment, const char *gate, const char *directory)
{
    if (call(SYS_fcntl, 0, F_GETFD, 0, 0, 0) == -EBADF)
        call(SYS_openat, AT_FDCWD, P("/dev/null"), O_RDWR, 0, 0); /* the lowest free number: 0 */
    call(SYS_dup3, 1, 2, 0, 0, 0);
    if (gate)
        wait_at(gate);
    if (directory) {
        long error = -call(SYS_chdir, P(directory), 0, 0, 0, 0);
        if (error) {
            add("kubeq: cannot change to directory ");
            add_quoted(directory);
            add(": ");
            add_error(error);
            say();
            leave(126);
        }
    }
    execute(argv, environment);
}

/* ---- own ---- */

/* One open directory on the way down. An explicit stack, in memory that the kernel provides only as it is touched: a
 * task may have made a tree deeper than any stack of calls. */
static struct level {
    long fd;
    long filled, next;
    char entries[2048] __attribute__((aligned(8)));
} levels[4096];

static struct {
    u32 uid, gid;
    u64 refused;
} own;

/* Counts what could not be changed, and says the first of it. */
static void note(const char *what, const char *name, long error)
{
    if (own.refused++)
        return;
    add("kubeq: cannot ");
    add(what);
    add_byte(' ');
    add_quoted(name);
    add(": ");
    add_error(error);
    say();
}

/* Gives one entry, never what a link points at. False if it is the root of another mount, which is left alone.
 * An entry that is right already is not touched, so that its change time stays. */
static int give(long directory, const char *name, long flags)
{
    static struct statx s;
    long error;
    if (call(SYS_statx, directory, P(name), flags, STATX_UID | STATX_GID, P(&s)) == 0) {
        if (*name && s.attributes & s.attributes_mask & STATX_ATTR_MOUNT_ROOT)
            return 0;
        if ((s.mask & (STATX_UID | STATX_GID)) == (STATX_UID | STATX_GID) && s.uid == own.uid && s.gid == own.gid)
            return 1;
    }
    error = -call(SYS_fchownat, directory, P(name), own.uid, own.gid, flags);
    if (error)
        note("change the owner of", name, error);
    return 1;
}

static long open_directory(long parent, const char *name)
{
    return call(SYS_openat, parent, P(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, 0);
}

/* The next entry of a directory but `.` and `..`, or null at its end. */
static struct dirent64 *next_entry(struct level *l)
{
    for (;;) {
        struct dirent64 *entry;
        if (l->next >= l->filled) {
            l->filled = call(SYS_getdents64, l->fd, P(l->entries), sizeof l->entries, 0, 0);
            l->next = 0;
            if (l->filled < 0)
                note("read", "a directory", -l->filled);
            if (l->filled <= 0)
                return 0;
        }
        entry = (struct dirent64 *)(l->entries + l->next);
        l->next += entry->length;
        if (!same(entry->name, ".") && !same(entry->name, ".."))
            return entry;
    }
}

static void raise_file_limit(void)
{
    u64 limit[2];
    if (call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, P(limit), 0) == 0) {
        limit[0] = limit[1];
        call(SYS_prlimit64, 0, RLIMIT_NOFILE, P(limit), 0, 0);
    }
}

static int give_tree(const char *root)
{
    u64 depth = 1;
    raise_file_limit();
    levels[0].fd = open_directory(AT_FDCWD, root);
    if (levels[0].fd < 0) {
        note("open directory", root, -levels[0].fd);
        return 1;
    }
    give(levels[0].fd, "", AT_EMPTY_PATH);
    while (depth) {
        struct level *here = &levels[depth - 1];
        struct dirent64 *entry = next_entry(here);
        long fd;
        if (!entry) {
            call(SYS_close, here->fd, 0, 0, 0, 0);
            depth--;
        } else if (!give(here->fd, entry->name, AT_SYMLINK_NOFOLLOW)) {
            continue;
        } else if (entry->type == DT_DIR || entry->type == DT_UNKNOWN) {
            fd = open_directory(here->fd, entry->name);
            if (fd == -ENOTDIR || fd == -ELOOP)
                continue;
            if (fd >= 0 && depth == sizeof levels / sizeof *levels) {
                call(SYS_close, fd, 0, 0, 0, 0);
                fd = -EMFILE;
            }
            if (fd < 0) {
                note("open directory", entry->name, -fd);
                continue;
            }
            levels[depth].fd = fd;
            levels[depth].filled = levels[depth].next = 0;
            depth++;
        }
    }
    if (own.refused > 1) {
        add("kubeq: ");
        add_number(own.refused);
        add(" entries in all could not be changed");
        say();
    }
    return own.refused != 0;
}

/* ---- pause ---- */

/* Waits for the end. The signals are blocked and asked for, not handled: a container's first process gets no signal
 * that it neither handles nor blocks. Children that lost their parent become ours there; their remains are cleared. */
__attribute__((noreturn)) static void pause(void)
{
    u64 set = 1UL << (SIGINT - 1) | 1UL << (SIGTERM - 1) | 1UL << (SIGCHLD - 1);
    call(SYS_rt_sigprocmask, SIG_BLOCK, P(&set), 0, sizeof set, 0);
    for (;;) {
        long signal;
        while (call(SYS_wait4, -1, 0, WNOHANG, 0, 0) > 0)
            ;
        signal = call(SYS_rt_sigtimedwait, P(&set), 0, 0, sizeof set, 0);
        if (signal == SIGINT || signal == SIGTERM)
            leave(0);
    }
}

/* ---- where it begins: called by _start with the stack that the kernel made ---- */

__attribute__((noreturn, used)) void begin(long *stack)
{
    long argc = stack[0];
    char **argv = (char **)(stack + 1), **environment = argv + argc + 1;
    const char *mode = argc > 1 ? argv[1] : "", *gate = 0, *directory = 0;

    if (same(mode, "run")) {
        long next = 2;
        if (argc > next + 1 && same(argv[next], "--gate")) {
            gate = argv[next + 1];
            next += 2;
        }
        if (argc > next + 1 && same(argv[next], "--cd")) {
            directory = argv[next + 1];
            next += 2;
        }
        if (argc > next + 1 && same(argv[next], "--"))
            run(argv + next + 1, environment, gate, directory);
    }
    if (same(mode, "own") && argc == 5 && parse_id(argv[2], &own.uid) && parse_id(argv[3], &own.gid))
        leave(give_tree(argv[4]));
    if (same(mode, "pause") && argc == 2)
        pause();
    add("usage: kubeq-exec run [--gate FIFO] [--cd DIR] -- ARGV... | own UID GID DIR | pause");
    say();
    leave(125);
}
