/* Loaded into Wine: gives a pair of ptys the modem lines, the break and the counters of a crossed null-modem cable.
   A pty has none of them, and the drivers that Wine asks for them would refuse.

   The folder $WINDOWS_LINES has a file per end, named by the number of its pty, with the number of the other end.
   Beside it <number>.state holds what both processes see. RTS leads to CTS, DTR to DSR and DCD of the other end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/serial.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Majors of the slave ends of ptys; each has 256 of them. */
enum { FIRST_MAJOR = 136, LAST_MAJOR = 143 };

struct end {
    int outputs;
    int cts, dsr, dcd, breaks;
};

static int other_end(int number)
{
    char name[400];
    int other = -1;
    const char *folder = getenv("WINDOWS_LINES");
    if (!folder)
        return -1;
    snprintf(name, sizeof name, "%s/%d", folder, number);
    FILE *file = fopen(name, "re");
    if (!file)
        return -1;
    if (fscanf(file, "%d", &other) != 1)
        other = -1;
    fclose(file);
    return other;
}

static struct end *mapped(int number)
{
    char name[400];
    snprintf(name, sizeof name, "%s/%d.state", getenv("WINDOWS_LINES"), number);
    int file = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        return NULL;
    void *place = ftruncate(file, sizeof(struct end))
        ? MAP_FAILED
        : mmap(NULL, sizeof(struct end), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return place == MAP_FAILED ? NULL : place;
}

static void drive(struct end *mine, struct end *other, int outputs)
{
    int changed = outputs ^ mine->outputs;
    mine->outputs = outputs;
    if (changed & TIOCM_RTS)
        other->cts++;
    if (changed & TIOCM_DTR) {
        other->dsr++;
        other->dcd++;
    }
}

static void answer(unsigned long request, void *argument, struct end *mine, struct end *other)
{
    int *bits = argument, outputs = TIOCM_RTS | TIOCM_DTR;
    switch (request) {
    case TIOCMGET:
        *bits = mine->outputs | (other->outputs & TIOCM_RTS ? TIOCM_CTS : 0)
            | (other->outputs & TIOCM_DTR ? TIOCM_DSR | TIOCM_CAR : 0);
        break;
    case TIOCMSET:
        drive(mine, other, *bits & outputs);
        break;
    case TIOCMBIS:
        drive(mine, other, mine->outputs | (*bits & outputs));
        break;
    case TIOCMBIC:
        drive(mine, other, mine->outputs & ~*bits);
        break;
    case TIOCSBRK:
        other->breaks++;
        break;
    case TIOCGICOUNT:
        *(struct serial_icounter_struct *)argument = (struct serial_icounter_struct){
            .cts = mine->cts, .dsr = mine->dsr, .dcd = mine->dcd, .brk = mine->breaks};
        break;
    }
}

static int number_of(int fd)
{
    struct stat facts;
    if (fstat(fd, &facts) || !S_ISCHR(facts.st_mode))
        return -1;
    int kind = major(facts.st_rdev);
    return kind < FIRST_MAJOR || kind > LAST_MAJOR ? -1 : (int)minor(facts.st_rdev) + 256 * (kind - FIRST_MAJOR);
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int, unsigned long, ...);
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (!real)
        real = dlsym(RTLD_NEXT, "ioctl");
    switch (request) {
    case TIOCMGET: case TIOCMSET: case TIOCMBIS: case TIOCMBIC: case TIOCGICOUNT: case TIOCSBRK:
        break;
    default:
        return real(fd, request, argument);
    }
    int number = number_of(fd), other = number < 0 ? -1 : other_end(number);
    if (other < 0)
        return real(fd, request, argument);
    struct end *mine = mapped(number), *far = mapped(other);
    if (!mine || !far)
        return real(fd, request, argument);
    answer(request, argument, mine, far);
    munmap(mine, sizeof *mine);
    munmap(far, sizeof *far);
    return 0;
}
