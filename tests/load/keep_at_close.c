/* Preloaded into a receiver that does not sync: it then promises of a file's content what the agent promises.
 *
 * With -DNAMED it also promises what the agent promises of a file's name: SHA-256 names it, and its folder is synced.
 * The disk begins before the digest, as the agent's does. What is left out is the agent's row in the ledger.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGEST_BYTES 32

static int (*real_close)(int);
static int (*real_fclose)(FILE *);

#ifdef NAMED
static unsigned char *(*sha256)(const unsigned char *, size_t, unsigned char *);

/* Hash what was written; 0 if it was. */
static int digest_of(const char *path, size_t size, unsigned char *digest)
{
    int fd = open(path, O_RDONLY);
    void *content = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (fd >= 0)
        real_close(fd);
    if (content == MAP_FAILED)
        return -1;
    sha256(content, size, digest);
    return munmap(content, size);
}

static void name_by_digest(const char *path, const unsigned char *digest)
{
    char folder[PATH_MAX], final[PATH_MAX + 2 * DIGEST_BYTES + 1];
    strcpy(folder, path);
    dirname(folder);
    int length = sprintf(final, "%s/", folder);
    for (int n = 0; n < DIGEST_BYTES; n++)
        length += sprintf(final + length, "%02x", digest[n]);
    rename(path, final);
    int fd = open(folder, O_RDONLY | O_DIRECTORY);
    if (fd >= 0) {
        fsync(fd);
        real_close(fd);
    }
}
#endif

static void keep_if_written(int fd)
{
    struct stat status;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return;
#ifdef NAMED
    char link[64], path[PATH_MAX];
    unsigned char digest[DIGEST_BYTES];
    sprintf(link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    int is_object = length > 0 && status.st_size > 0 && fd > STDERR_FILENO;
    if (is_object) {
        path[length] = 0;
        sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        is_object = digest_of(path, status.st_size, digest) == 0;
    }
#endif
    fdatasync(fd);
#ifdef NAMED
    if (is_object)
        name_by_digest(path, digest);
#endif
}

__attribute__((constructor)) static void find_the_real_ones(void)
{
    real_close = (int (*)(int))dlsym(RTLD_NEXT, "close");
    real_fclose = (int (*)(FILE *))dlsym(RTLD_NEXT, "fclose");
#ifdef NAMED
    void *crypto = dlopen("libcrypto.so.3", RTLD_NOW);
    *(void **)&sha256 = crypto ? dlsym(crypto, "SHA256") : NULL;
    if (!sha256) {
        fputs("libcrypto.so.3 with SHA256 is needed\n", stderr);
        _exit(1);
    }
#endif
}

int close(int fd)
{
    keep_if_written(fd);
    return real_close(fd);
}

int fclose(FILE *file)
{
    if (fflush(file) == 0)
        keep_if_written(fileno(file));
    return real_fclose(file);
}
