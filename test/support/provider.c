/*
 * A PKCS#11 provider with one token and one Ed25519 key, for the tests: it does what FAKE_MODE says, has no cryptography
 * (FAKE_PUBLIC and FAKE_SIGNATURE are hexadecimal), and keeps the tries that its PIN has left in the file FAKE_STATE.
 *   gcc -shared -fPIC -o provider.so provider.c
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

typedef unsigned long ulong;
struct attribute { ulong type; void *value; ulong length; };
struct token_info { unsigned char label[32], manufacturer[32], model[16], serial[16]; ulong flags, rest[10]; char more[20]; };
struct session_info { ulong slot, state, flags, error; };

enum { OK = 0, GENERAL = 5, ATTRIBUTE_TYPE = 0x12, PIN_INCORRECT = 0xa0, PIN_LOCKED = 0xa4, NOT_LOGGED_IN = 0x101 };
enum { PUBLIC = 2, PRIVATE = 3 };

static int logged_in, each_use, searching, signs, sessions;
static ulong wanted;

static int mode(const char *name) {
  const char *is = getenv("FAKE_MODE");
  return is && strcmp(is, name) == 0;
}

static void hang(const char *name) { while (mode(name)) sleep(1); }

static void crash(const char *name) { if (mode(name)) *(volatile int *)8 = 1; }

__attribute__((constructor)) static void loaded(void) {
  const char *mark = getenv("FAKE_MARK");
  if (mark) fclose(fopen(mark, "w"));
  crash("crash-load");
  hang("hang-load");
  if (mode("exit-load")) _exit(7);
  if (mode("print")) { printf("hello from the provider\n"); fflush(stdout); }
}

static ulong hex(const char *name, unsigned char *out) {
  const char *in = getenv(name);
  ulong n = 0;
  for (; in && in[0] && in[1]; in += 2) { unsigned v; sscanf(in, "%2x", &v); out[n++] = v; }
  return n;
}

static int tries(int set) {
  const char *path = getenv("FAKE_STATE");
  int left = 3;
  FILE *file = path ? fopen(path, set >= 0 ? "w" : "r") : NULL;
  if (file && set >= 0) fprintf(file, "%d", set);
  else if (file && fscanf(file, "%d", &left) != 1) left = 3;
  if (file) fclose(file);
  return set >= 0 ? set : left;
}

static ulong Initialize(void *a) {
  crash("crash-initialize");
  /* A device that serves one process. */
  if (mode("hang-second") && flock(open(getenv("FAKE_STATE"), O_RDONLY), LOCK_EX | LOCK_NB) != 0) hang("hang-second");
  return mode("fail-initialize") ? GENERAL : OK;
}
static ulong Finalize(void *a) { hang("hang-finalize"); return OK; }

static ulong GetSlotList(unsigned char present, ulong *list, ulong *count) {
  hang("hang-list");
  const char *gone = getenv("FAKE_GONE");
  if (mode("garbage") || mode("garbage-slots")) { *count = 0x7fffffffffffffffUL; return OK; }
  if (gone && access(gone, F_OK) == 0) { *count = 0; return OK; }
  if (list) list[0] = 7;
  *count = 1;
  return OK;
}

static ulong GetTokenInfo(ulong slot, struct token_info *info) {
  memset(info, mode("garbage-token") ? 0xff : ' ', 96);
  if (!mode("garbage-token")) memcpy(info->label, "fake", 4);
  info->flags = 0x40c; /* initialised, PIN set, login required */
  if (getenv("FAKE_PINPAD")) info->flags |= 0x100;
  int left = tries(-1);
  if (left < 3) info->flags |= 0x10000;
  if (left == 1) info->flags |= 0x20000;
  if (left == 0) info->flags |= 0x40000;
  return OK;
}

static ulong OpenSession(ulong slot, ulong flags, void *a, void *n, ulong *session) { *session = ++sessions; return OK; }
static ulong CloseSession(ulong session) { if (--sessions == 0) logged_in = 0; return OK; }
static ulong GetSessionInfo(ulong session, struct session_info *info) { info->state = logged_in ? 1 : 0; return OK; }

static ulong Login(ulong session, ulong user, const char *pin, ulong length) {
  int left = tries(-1);
  if (left == 0) return PIN_LOCKED;
  if (user == 1 && logged_in) return 0x100;
  int right = getenv("FAKE_PINPAD") ? pin == NULL : length == 6 && memcmp(pin, "123456", 6) == 0;
  if (!right) { tries(left - 1); return PIN_INCORRECT; }
  tries(3);
  if (user == 2) each_use = 1; else logged_in = 1;
  return OK;
}

static ulong Logout(ulong session) { logged_in = 0; return OK; }

static ulong FindObjectsInit(ulong session, struct attribute *template, ulong count) {
  wanted = *(ulong *)template[0].value;
  searching = 1;
  return OK;
}

static ulong FindObjects(ulong session, ulong *list, ulong max, ulong *count) {
  int endless = mode("garbage") || mode("endless");
  int there = (wanted == PUBLIC && !getenv("FAKE_HIDDEN")) || (wanted == PUBLIC && logged_in) || (wanted == PRIVATE && logged_in);
  *count = 0;
  if (endless) { for (ulong i = 0; i < max; i++) list[i] = PUBLIC; *count = max; return OK; }
  if (searching && there) { list[0] = wanted; *count = 1; searching = 0; }
  return OK;
}

static ulong FindObjectsFinal(ulong session) { return OK; }

static ulong give(struct attribute *a, const void *value, ulong length) {
  if (!a->value || a->length < length) return 0x150;
  memcpy(a->value, value, length);
  a->length = length;
  return OK;
}

static ulong GetAttributeValue(ulong session, ulong object, struct attribute *a, ulong count) {
  unsigned char bytes[256];
  ulong edwards = 0x40;
  if (mode("garbage-attributes")) { memset(a->value, 0xa5, a->length); a->length = ~0UL - 5; return OK; }
  switch (a->type) {
    case 0x3: return give(a, "key\033[31m", 8);
    case 0x100: return give(a, &edwards, 8);
    case 0x102: return give(a, "\1", 1);
    case 0x108: return give(a, "\1", 1);
    case 0x180: return give(a, "\x06\x03\x2b\x65\x70", 5);
    case 0x181: return give(a, bytes, hex("FAKE_PUBLIC", bytes));
    case 0x202: return give(a, getenv("FAKE_ALWAYS") ? "\1" : "\0", 1);
    default: a->length = ~0UL; return ATTRIBUTE_TYPE;
  }
}

static ulong SignInit(ulong session, void *mechanism, ulong key) { each_use = 0; return logged_in ? OK : NOT_LOGGED_IN; }

static ulong Sign(ulong session, void *data, ulong length, unsigned char *out, ulong *room) {
  hang("hang-sign");
  crash("crash-sign");
  if (mode("slow-sign")) { fclose(fopen(getenv("FAKE_SIGNING"), "w")); usleep(50000); }
  if (mode("garbage-sign")) { *room = 1UL << 40; return OK; }
  if (mode("logout-once") && signs++ == 0) return NOT_LOGGED_IN;
  if (mode("general-once") && signs++ == 0) return GENERAL;
  if (getenv("FAKE_ALWAYS") && !each_use) return NOT_LOGGED_IN;
  *room = hex("FAKE_SIGNATURE", out);
  return OK;
}

static ulong unserved(void) { return 0x54; }

static struct { unsigned char major, minor; void *functions[68]; } list = { 2, 40 };

ulong C_GetFunctionList(void **out) {
  if (mode("no-list")) { *out = NULL; return OK; }
  if (mode("wild-list")) { *out = (void *)0x10; return OK; }
  if (mode("version")) list.major = 99;
  for (int i = 0; i < 68; i++) list.functions[i] = unserved;
  void **f = list.functions;
  f[0] = Initialize; f[1] = Finalize; f[4] = GetSlotList; f[6] = GetTokenInfo; f[12] = OpenSession; f[13] = CloseSession;
  f[15] = GetSessionInfo; f[18] = Login; f[19] = Logout; f[24] = GetAttributeValue; f[26] = FindObjectsInit;
  f[27] = FindObjects; f[28] = FindObjectsFinal; f[42] = SignInit; f[43] = Sign;
  *out = &list;
  return OK;
}
