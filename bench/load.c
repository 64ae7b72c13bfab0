/*
 * The load generator of the benchmark, and the trivial agent that shows its ceiling. One thread, epoll, no library.
 *
 *   load sign|list|connect -s SOCKET [-k BLOBFILE] [-d BYTES] [-f FLAGS] [-c CONNECTIONS] [-i IDLE] [-t SECONDS | -n COUNT]
 *                          [-r RATE]   work in a closed loop, or RATE requests a second; prints one line of JSON
 *   load replay -s SOCKET -k FILE      sends the framed requests of FILE one after another, each must succeed
 *   load idle -s SOCKET -c CONNECTIONS opens them, asks on each once, prints "ready", holds them until stdin ends
 *   load start -s SOCKET -- COMMAND    starts COMMAND, prints the milliseconds until SOCKET answered a list, ends it
 *   load spawn -n COUNT -- COMMAND     runs COMMAND that often, prints wall and processor milliseconds of each
 *   load answer -s SOCKET              an agent that answers at once: one key, a signature of zeros
 *
 * With -r a latency counts from when its request was due, so a time in which the agent stands still is not left out.
 * Requests under way at the end are waited for (GRACE); their latency counts, the work itself does not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GRACE 5.0
#define MAX_SAMPLES (1u << 22)
#define EVENTS 256

enum mode { SIGN, LIST, CONNECT };

struct connection {
  int fd;
  uint64_t began;     /* when the request was sent, or due */
  uint32_t got, want; /* bytes of the answer; want is known after the first four */
  unsigned char head[5];
};

static const char *path;
static unsigned char *request;
static size_t request_length;
static unsigned char expected;
static unsigned char scratch[1 << 18];
static float *samples;
static size_t sample_count;
static uint64_t failures, largest_answer;

static void die(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void put32(unsigned char *at, uint32_t value) {
  at[0] = (unsigned char)(value >> 24), at[1] = (unsigned char)(value >> 16);
  at[2] = (unsigned char)(value >> 8), at[3] = (unsigned char)value;
}

static uint32_t get32(const unsigned char *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static struct sockaddr_un address(void) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof a.sun_path) errno = ENAMETOOLONG, die(path);
  strcpy(a.sun_path, path);
  return a;
}

static int try_connect(void) {
  struct sockaddr_un a = address();
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
    int kept = errno;
    close(fd);
    errno = kept;
    return -1;
  }
  return fd;
}

static int must_connect(void) {
  int fd = try_connect();
  if (fd < 0) die(path);
  return fd;
}

static unsigned char *slurp(const char *file, size_t *length) {
  FILE *f = fopen(file, "rb");
  if (f == NULL) die(file);
  fseek(f, 0, SEEK_END);
  *length = (size_t)ftell(f);
  rewind(f);
  unsigned char *bytes = malloc(*length + 1);
  if (bytes == NULL || fread(bytes, 1, *length, f) != *length) die(file);
  fclose(f);
  return bytes;
}

/* Blocking: reads one whole answer, returns its message number. */
static int answer_of(int fd) {
  unsigned char head[5];
  size_t got = 0;
  while (got < 5) {
    ssize_t n = read(fd, head + got, 5 - got);
    if (n <= 0) return -1;
    got += (size_t)n;
  }
  for (uint32_t left = get32(head) - 1; left > 0;) {
    ssize_t n = read(fd, scratch, left < sizeof scratch ? left : sizeof scratch);
    if (n <= 0) return -1;
    left -= (uint32_t)n;
  }
  return head[4];
}

static void make_list(void) {
  static unsigned char list[5] = {0, 0, 0, 1, 11};
  request = list, request_length = sizeof list, expected = 12;
}

static void make_sign(const char *file, uint32_t data, uint32_t flags) {
  size_t length;
  unsigned char *blob = slurp(file, &length);
  request_length = 4 + 1 + 4 + length + 4 + data + 4;
  request = malloc(request_length);
  put32(request, (uint32_t)request_length - 4);
  request[4] = 13;
  put32(request + 5, (uint32_t)length);
  memcpy(request + 9, blob, length);
  put32(request + 9 + length, data);
  for (uint32_t i = 0; i < data; i++) request[13 + length + i] = (unsigned char)(i * 7 + 1);
  put32(request + 13 + length + data, flags);
  free(blob);
  expected = 14;
}

static void send_request(struct connection *c, uint64_t began) {
  c->began = began;
  c->got = 0, c->want = 0;
  ssize_t n = write(c->fd, request, request_length);
  if (n != (ssize_t)request_length) die("write");
}

static void sample(uint64_t nanoseconds) {
  if (sample_count < MAX_SAMPLES) samples[sample_count++] = (float)nanoseconds / 1000.0f;
}

/* Reads what is there. 1: the answer is whole, 0: not yet, -1: the agent hung up. */
static int receive(struct connection *c) {
  for (;;) {
    ssize_t n = read(c->fd, scratch, sizeof scratch);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) return -1;
    for (ssize_t i = 0; i < n && c->got + i < 5; i++) c->head[c->got + i] = scratch[i];
    c->got += (uint32_t)n;
    if (c->want == 0 && c->got >= 5) c->want = get32(c->head) + 4;
    if (c->want != 0 && c->got >= c->want) {
      if (c->head[4] != expected || c->got != c->want) failures++;
      if (c->want > largest_answer) largest_answer = c->want;
      return 1;
    }
    if ((size_t)n < sizeof scratch) return 0;
  }
}

static int by_size(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static double at(double share) {
  if (sample_count == 0) return 0;
  size_t i = (size_t)(share * (double)sample_count);
  return samples[i < sample_count ? i : sample_count - 1];
}

static void watch(int poll_fd, struct connection *c) {
  if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0) die("fcntl");
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0) die("epoll_ctl");
}

static void reopen(int poll_fd, struct connection *c) {
  uint64_t began = now();
  c->fd = must_connect();
  watch(poll_fd, c);
  send_request(c, began);
}

static int work(enum mode mode, uint32_t count, uint32_t idle, double seconds, uint64_t limit, double rate) {
  samples = malloc(MAX_SAMPLES * sizeof *samples);
  struct connection *all = calloc(count + 1, sizeof *all);
  int poll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (samples == NULL || all == NULL || poll_fd < 0) die("setup");
  for (uint32_t i = 0; i < idle; i++) must_connect();
  if (mode != CONNECT)
    for (uint32_t i = 0; i < count; i++) {
      all[i].fd = must_connect();
      watch(poll_fd, &all[i]);
    }
  struct connection ticks = {.fd = -1};
  uint64_t start = now(), end = start + (uint64_t)(seconds * 1e9), due = start, step = 0;
  if (rate > 0) {
    step = (uint64_t)(1e9 / rate);
    struct itimerspec every = {{0, (long)(step % 1000000000u)}, {0, 1}};
    every.it_interval.tv_sec = (time_t)(step / 1000000000u);
    ticks.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (ticks.fd < 0 || timerfd_settime(ticks.fd, 0, &every, NULL) != 0) die("timerfd");
    watch(poll_fd, &ticks);
  }
  uint64_t sent = 0, done = 0, done_at = start;
  uint32_t pending = 0;
  if (rate <= 0)
    for (uint32_t i = 0; i < count && (limit == 0 || sent < limit); i++, sent++, pending++) {
      if (mode == CONNECT) reopen(poll_fd, &all[i]);
      else send_request(&all[i], now());
    }
  while (pending > 0 || (rate > 0 && now() < end)) {
    struct epoll_event events[EVENTS];
    uint64_t time = now();
    uint64_t stop = limit == 0 ? end + (uint64_t)(GRACE * 1e9) : UINT64_MAX;
    if (time >= stop) break;
    int n = epoll_wait(poll_fd, events, EVENTS, 100);
    if (n < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      if (c == &ticks) {
        uint64_t passed;
        if (read(ticks.fd, &passed, sizeof passed) < 0) continue;
        time = now();
        if (pending == 0 && time < end && due <= time) {
          send_request(&all[0], due);
          due += step, sent++, pending++;
        }
        continue;
      }
      int whole = receive(c);
      if (whole == 0) continue;
      if (whole < 0) errno = ECONNRESET, die("the agent hung up");
      time = now();
      sample(time - c->began);
      pending--;
      if (limit != 0 || time < end) done++, done_at = time;
      if (mode == CONNECT) close(c->fd);
      if (rate > 0) {
        if (due > time || time >= end) continue;
        send_request(c, due);
        due += step;
      } else {
        if (limit != 0 ? sent >= limit : time >= end) continue;
        if (mode == CONNECT) reopen(poll_fd, c);
        else send_request(c, time);
      }
      sent++, pending++;
    }
  }
  for (uint32_t i = 0, left = pending; left > 0 && i < count; i++)
    if (all[i].want == 0 || all[i].got < all[i].want) sample(now() - all[i].began), left--;
  /* What was due and never sent has waited as well. */
  for (; rate > 0 && due < end; due += step) sample(now() - due);
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  double cpu = (double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
  double took = (double)((limit != 0 || done_at > end ? done_at : end) - start) / 1e9;
  qsort(samples, sample_count, sizeof *samples, by_size);
  printf("{\"done\":%llu,\"seconds\":%.6f,\"rate\":%.3f,\"p50\":%.2f,\"p99\":%.2f,\"max\":%.2f,\"failures\":%llu,"
         "\"unanswered\":%u,\"answerBytes\":%llu,\"cpu\":%.4f}\n",
         (unsigned long long)done, took, (double)done / took, at(0.50), at(0.99), at(1.0),
         (unsigned long long)failures, pending, (unsigned long long)largest_answer, cpu);
  return 0;
}

static int replay(const char *file) {
  size_t length, failed = 0, sent = 0;
  unsigned char *all = slurp(file, &length);
  int fd = must_connect();
  uint64_t start = now();
  for (size_t i = 0; i + 4 <= length; sent++) {
    size_t size = get32(all + i) + 4;
    if (write(fd, all + i, size) != (ssize_t)size) die("write");
    int number = answer_of(fd);
    if (number < 0) errno = ECONNRESET, die("the agent hung up");
    if (number != 6) failed++;
    i += size;
  }
  printf("{\"sent\":%zu,\"failed\":%zu,\"seconds\":%.6f}\n", sent, failed, (double)(now() - start) / 1e9);
  memset(all, 0, length);
  return 0;
}

static int hold(uint32_t count) {
  make_list();
  for (uint32_t i = 0; i < count; i++) {
    int fd = must_connect();
    if (write(fd, request, request_length) < 0 || answer_of(fd) < 0) die("no answer");
  }
  puts("ready");
  fflush(stdout);
  while (read(0, scratch, sizeof scratch) > 0) {
  }
  return 0;
}

static pid_t run(char **command) {
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    setpgid(0, 0);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) dup2(null, fd);
    execvp(command[0], command);
    _exit(127);
  }
  return pid;
}

static int time_start(char **command) {
  make_list();
  uint64_t start = now();
  pid_t pid = run(command);
  double took = -1;
  while (now() - start < 20000000000u) {
    int fd = try_connect();
    if (fd >= 0) {
      if (write(fd, request, request_length) > 0 && answer_of(fd) == 12) took = (double)(now() - start) / 1e6;
      close(fd);
      if (took >= 0) break;
    }
    usleep(200);
  }
  kill(-pid, SIGTERM);
  for (int i = 0; i < 2000 && waitpid(pid, NULL, WNOHANG) == 0; i++) {
    if (i == 1500) kill(-pid, SIGKILL);
    usleep(1000);
  }
  printf("{\"milliseconds\":%.3f}\n", took);
  return took < 0;
}

static int time_spawn(uint64_t count, char **command) {
  printf("{\"runs\":[");
  for (uint64_t i = 0; i < count; i++) {
    struct rusage used;
    int status;
    uint64_t start = now();
    pid_t pid = run(command);
    if (wait4(pid, &status, 0, &used) != pid) die("wait4");
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3;
    printf("%s{\"wall\":%.3f,\"cpu\":%.3f,\"maxKb\":%ld,\"code\":%d}", i ? "," : "", (double)(now() - start) / 1e6,
           cpu, used.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  }
  puts("]}");
  return 0;
}

/* The agent that answers at once. */
static _Noreturn void answer(void) {
  static unsigned char signature[4 + 1 + 4 + 83], list[4 + 1 + 4 + 4 + 51 + 4 + 3];
  put32(signature, sizeof signature - 4), signature[4] = 14, put32(signature + 5, 83);
  put32(list, sizeof list - 4), list[4] = 12, put32(list + 5, 1), put32(list + 9, 51), put32(list + 64, 3);
  struct sockaddr_un a = address();
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), poll_fd = epoll_create1(EPOLL_CLOEXEC);
  unlink(path);
  if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 4096) != 0) die(path);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(poll_fd, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        int accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted < 0) continue;
        event.data.fd = accepted;
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, accepted, &event);
        continue;
      }
      ssize_t got = read(fd, scratch, sizeof scratch);
      if (got < 5) {
        close(fd);
        continue;
      }
      ssize_t wrote = scratch[4] == 13 ? write(fd, signature, sizeof signature) : write(fd, list, sizeof list);
      if (wrote < 0) close(fd);
    }
  }
}

int main(int argc, char **argv) {
  if (argc < 2) return fprintf(stderr, "usage: see the head of load.c\n"), 1;
  const char *word = argv[1], *file = NULL;
  uint32_t data = 200, flags = 0, count = 1, idle = 0;
  uint64_t limit = 0;
  double seconds = 1, rate = 0;
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && strcmp(word, "start") != 0 && strcmp(word, "spawn") != 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  signal(SIGPIPE, SIG_IGN);
  argv++, argc--;
  for (int option; (option = getopt(argc, argv, "+s:k:d:f:c:i:t:n:r:")) != -1;) switch (option) {
      case 's': path = optarg; break;
      case 'k': file = optarg; break;
      case 'd': data = (uint32_t)atoi(optarg); break;
      case 'f': flags = (uint32_t)atoi(optarg); break;
      case 'c': count = (uint32_t)atoi(optarg); break;
      case 'i': idle = (uint32_t)atoi(optarg); break;
      case 't': seconds = atof(optarg); break;
      case 'n': limit = (uint64_t)atoll(optarg); break;
      case 'r': rate = atof(optarg); break;
      default: return 1;
    }
  if (strcmp(word, "spawn") == 0) return time_spawn(limit, argv + optind);
  if (path == NULL) return fprintf(stderr, "load: -s is missing\n"), 1;
  if (strcmp(word, "start") == 0) return time_start(argv + optind);
  if (strcmp(word, "answer") == 0) answer();
  if (strcmp(word, "idle") == 0) return hold(count);
  if (strcmp(word, "replay") == 0) return replay(file);
  if (strcmp(word, "sign") == 0) make_sign(file, data, flags);
  else make_list();
  return work(strcmp(word, "sign") == 0 ? SIGN : strcmp(word, "list") == 0 ? LIST : CONNECT, count, idle, seconds,
              limit, rate);
}
