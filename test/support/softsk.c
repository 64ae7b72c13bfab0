/*
 * A security key in software, for tests alone: OpenSSH's sk-api (version 10, both algorithms, resident keys) over
 * libcrypto. A key handle is the whole private key in DER, so this protects nothing.
 *
 *   gcc -shared -fPIC softsk.c -lcrypto -o softsk.so
 *
 * What it does is set by the environment of the helper that loads it:
 *   SOFTSK_PIN=1234      keys made with verify-required, and resident keys, need this PIN
 *   SOFTSK_DELAY_MS=500  the "touch" takes so long
 *   SOFTSK_FAIL=-1       enrolling, signing and listing fail with this code of the sk-api (-4: no such device)
 *   SOFTSK_STORE=FILE    where resident keys are kept; without it there are none
 *   SOFTSK_TRACE=FILE    a line "begin PID" and "end PID" for each signature
 *   SOFTSK_BUSY=FILE     exists while signing; a second signature meanwhile fails, as on a real device
 *   SOFTSK_WRONG=1       signs other bytes than it was given
 *   SOFTSK_CRASH=load or sign
 */
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ALG_ECDSA = 0, ALG_ED25519 = 1 };
enum { FLAG_TOUCH = 0x01, FLAG_VERIFY = 0x04, FLAG_RESIDENT = 0x20 };
enum { ERR_GENERAL = -1, ERR_UNSUPPORTED = -2, ERR_PIN_REQUIRED = -3 };

struct sk_enroll_response {
  uint8_t flags;
  uint8_t *public_key;
  size_t public_key_len;
  uint8_t *key_handle;
  size_t key_handle_len;
  uint8_t *signature;
  size_t signature_len;
  uint8_t *attestation_cert;
  size_t attestation_cert_len;
  uint8_t *authdata;
  size_t authdata_len;
};

struct sk_sign_response {
  uint8_t flags;
  uint32_t counter;
  uint8_t *sig_r;
  size_t sig_r_len;
  uint8_t *sig_s;
  size_t sig_s_len;
};

struct sk_resident_key {
  uint32_t alg;
  size_t slot;
  char *application;
  struct sk_enroll_response key;
  uint8_t flags;
  uint8_t *user_id;
  size_t user_id_len;
};

struct sk_option {
  char *name;
  char *value;
  uint8_t required;
};

/* One record of SOFTSK_STORE. */
struct record {
  uint32_t alg;
  uint32_t flags;
  uint32_t handle_length;
  char application[64];
  uint8_t handle[256];
};

static int is_set(const char *name, const char *value) {
  const char *set = getenv(name);
  return set != NULL && strcmp(set, value) == 0;
}

__attribute__((constructor)) static void loaded(void) {
  if (is_set("SOFTSK_CRASH", "load")) abort();
}

static void *copy_of(const void *bytes, size_t length) {
  void *copy = calloc(1, length + 1);
  if (copy != NULL) memcpy(copy, bytes, length);
  return copy;
}

static int pin_missing(const char *pin) {
  const char *wanted = getenv("SOFTSK_PIN");
  return wanted != NULL && (pin == NULL || strcmp(pin, wanted) != 0);
}

static int told_to_fail(void) {
  const char *code = getenv("SOFTSK_FAIL");
  return code == NULL ? 0 : atoi(code);
}

static void wait_for_touch(void) {
  const char *delay = getenv("SOFTSK_DELAY_MS");
  if (delay == NULL) return;
  int milliseconds = atoi(delay);
  sleep((unsigned)milliseconds / 1000);
  usleep((unsigned)milliseconds % 1000 * 1000);
}

static void trace(const char *word) {
  const char *path = getenv("SOFTSK_TRACE");
  FILE *file = path == NULL ? NULL : fopen(path, "a");
  if (file == NULL) return;
  fprintf(file, "%s %ld\n", word, (long)getpid());
  fclose(file);
}

/* Private key of a handle, or NULL. */
static EVP_PKEY *key_of(const uint8_t *handle, size_t length) {
  return d2i_AutoPrivateKey(NULL, &handle, (long)length);
}

static int public_key_of(EVP_PKEY *key, struct sk_enroll_response *response) {
  uint8_t point[128];
  size_t length;
  if (EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &length) != 1)
    return ERR_GENERAL;
  response->public_key = copy_of(point, length);
  response->public_key_len = length;
  return 0;
}

uint32_t sk_api_version(void) { return 0x000a0000; }

int sk_enroll(uint32_t alg, const uint8_t *challenge, size_t challenge_len, const char *application, uint8_t flags,
              const char *pin, struct sk_option **options, struct sk_enroll_response **answer) {
  (void)challenge, (void)challenge_len, (void)options;
  if (told_to_fail() != 0) return told_to_fail();
  if ((flags & (FLAG_VERIFY | FLAG_RESIDENT)) != 0 && pin_missing(pin)) return ERR_PIN_REQUIRED;
  if (alg != ALG_ECDSA && alg != ALG_ED25519) return ERR_UNSUPPORTED;
  wait_for_touch();
  EVP_PKEY *key = alg == ALG_ECDSA ? EVP_EC_gen("P-256") : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
  uint8_t *handle = NULL;
  int length = key == NULL ? -1 : i2d_PrivateKey(key, &handle);
  struct sk_enroll_response *response = calloc(1, sizeof *response);
  if (length < 0 || response == NULL || public_key_of(key, response) != 0) return ERR_GENERAL;
  EVP_PKEY_free(key);
  response->flags = flags;
  response->key_handle = copy_of(handle, (size_t)length);
  response->key_handle_len = (size_t)length;
  response->signature = copy_of("none", 4);
  response->signature_len = 4;

  const char *path = getenv("SOFTSK_STORE");
  struct record record = {alg, flags, (uint32_t)length, {0}, {0}};
  if ((flags & FLAG_RESIDENT) != 0 && path != NULL && (size_t)length <= sizeof record.handle) {
    strncpy(record.application, application, sizeof record.application - 1);
    memcpy(record.handle, handle, (size_t)length);
    FILE *store = fopen(path, "ab");
    if (store == NULL || fwrite(&record, sizeof record, 1, store) != 1) return ERR_GENERAL;
    fclose(store);
  }
  OPENSSL_free(handle);
  *answer = response;
  return 0;
}

static int sign_digest(EVP_PKEY *key, uint32_t alg, const uint8_t *message, size_t length,
                       struct sk_sign_response *response) {
  uint8_t signature[128];
  size_t made = sizeof signature;
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  int ok = EVP_DigestSignInit(context, NULL, alg == ALG_ECDSA ? EVP_sha256() : NULL, NULL, key) == 1 &&
           EVP_DigestSign(context, signature, &made, message, length) == 1;
  EVP_MD_CTX_free(context);
  if (!ok) return ERR_GENERAL;
  if (alg == ALG_ED25519) {
    response->sig_r = copy_of(signature, made);
    response->sig_r_len = made;
    return 0;
  }
  const uint8_t *der = signature;
  ECDSA_SIG *numbers = d2i_ECDSA_SIG(NULL, &der, (long)made);
  if (numbers == NULL) return ERR_GENERAL;
  uint8_t bytes[32];
  response->sig_r_len = (size_t)BN_bn2bin(ECDSA_SIG_get0_r(numbers), bytes);
  response->sig_r = copy_of(bytes, response->sig_r_len);
  response->sig_s_len = (size_t)BN_bn2bin(ECDSA_SIG_get0_s(numbers), bytes);
  response->sig_s = copy_of(bytes, response->sig_s_len);
  ECDSA_SIG_free(numbers);
  return 0;
}

int sk_sign(uint32_t alg, const uint8_t *data, size_t data_len, const char *application, const uint8_t *key_handle,
            size_t key_handle_len, uint8_t flags, const char *pin, struct sk_option **options,
            struct sk_sign_response **answer) {
  (void)options;
  if (told_to_fail() != 0) return told_to_fail();
  if ((flags & FLAG_VERIFY) != 0 && pin_missing(pin)) return ERR_PIN_REQUIRED;
  const char *busy = getenv("SOFTSK_BUSY");
  if (busy != NULL) {
    int held = open(busy, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (held < 0) return ERR_GENERAL;
    close(held);
  }
  trace("begin");
  if (is_set("SOFTSK_CRASH", "sign")) abort();
  wait_for_touch();

  /* What is signed (PROTOCOL.u2f): SHA-256 of the application, flags, counter, SHA-256 of the data. */
  uint8_t message[32 + 1 + 4 + 32] = {0};
  struct sk_sign_response *response = calloc(1, sizeof *response);
  EVP_PKEY *key = key_of(key_handle, key_handle_len);
  if (response == NULL || key == NULL) return ERR_GENERAL;
  response->flags = flags & (FLAG_TOUCH | FLAG_VERIFY);
  response->counter = 7;
  SHA256((const uint8_t *)application, strlen(application), message);
  message[32] = response->flags;
  message[36] = 7;
  SHA256(data, getenv("SOFTSK_WRONG") == NULL ? data_len : 0, message + 37);
  int result = sign_digest(key, alg, message, sizeof message, response);
  EVP_PKEY_free(key);
  trace("end");
  if (busy != NULL) unlink(busy);
  *answer = response;
  return result;
}

int sk_load_resident_keys(const char *pin, struct sk_option **options, struct sk_resident_key ***answer,
                          size_t *count) {
  (void)options;
  if (told_to_fail() != 0) return told_to_fail();
  if (pin_missing(pin)) return ERR_PIN_REQUIRED;
  wait_for_touch();
  struct sk_resident_key **list = calloc(64, sizeof *list);
  const char *path = getenv("SOFTSK_STORE");
  FILE *store = path == NULL ? NULL : fopen(path, "rb");
  struct record record;
  *count = 0;
  while (store != NULL && *count < 64 && fread(&record, sizeof record, 1, store) == 1) {
    struct sk_resident_key *one = calloc(1, sizeof *one);
    EVP_PKEY *key = key_of(record.handle, record.handle_length);
    if (one == NULL || key == NULL || public_key_of(key, &one->key) != 0) return ERR_GENERAL;
    EVP_PKEY_free(key);
    one->alg = record.alg;
    one->slot = *count;
    one->application = strdup(record.application);
    one->flags = (uint8_t)record.flags;
    one->key.key_handle = copy_of(record.handle, record.handle_length);
    one->key.key_handle_len = record.handle_length;
    one->user_id = copy_of("user", 4);
    one->user_id_len = 4;
    list[(*count)++] = one;
  }
  if (store != NULL) fclose(store);
  *answer = list;
  return 0;
}
