/* Tilewright artifacts from C: the ABI of a model, and a loader in this one header (Linux, C99).
 *
 *     #define _GNU_SOURCE 1               or -D_GNU_SOURCE, before any system header
 *     #include "tilewright.h"
 *     tw_model model;
 *     int status = tw_open("model.tw", 4, &model);          link with -ldl on glibc before 2.34
 *     ...
 *     tw_close(&model);
 *
 * tw_open_slice opens a slice of an artifact that was compiled with several (--slices).
 *
 * Every call returns a status; 0 is success. A session is used by one thread at a time; different
 * sessions are independent. The loader checks the container's structure and the CRC-32 of the code;
 * the Python runtime also verifies SHA-256 checksums of every entry.
 */
#ifndef TILEWRIGHT_H
#define TILEWRIGHT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TW_OK = 0,
    TW_SHAPE_CONFLICT = 1,    /* input shapes conflict, or are out of the model's bounds */
    TW_OUT_OF_MEMORY = 2,
    TW_DATA_ERROR = 3,        /* index out of range, failed guard */
    TW_CPU_LACKS_FEATURE = 4, /* tw_create only */
    TW_MODEL_ERROR = 16,      /* this and above: the model's own errors, see tw_error */
    /* Of tw_open: */
    TW_CANNOT_READ = -1,
    TW_NOT_AN_ARTIFACT = -2,
    TW_DAMAGED = -3,
    TW_NO_CODE_FOR_THIS_CPU = -4,
    TW_CANNOT_LOAD = -5,
    TW_NO_SUCH_SLICE = -6
};

/* Rank and element type are the model's. Shape points to that many numbers. */
typedef struct {
    void *data;
    int64_t *shape;
} tw_tensor;

/* The functions that a model exports. */
typedef struct {
    int32_t (*abi)(void);
    int32_t (*create)(const void *weights, int64_t threads, void **session);
    /* Resolves the dims from in[i].shape and fills out[i].shape (upper bounds where they depend on
     * data). Data pointers are not used. */
    int32_t (*shapes)(void *session, const tw_tensor *in, tw_tensor *out);
    /* out[i].data: buffers of at least the size that `shapes` gave. out[i].shape: final shapes. */
    int32_t (*run)(void *session, const tw_tensor *in, tw_tensor *out);
    int64_t (*arena_bytes)(void *session);
    /* Adds to ns[launch] and calls[launch] in later runs; NULL turns it off. */
    int32_t (*profile)(void *session, int64_t *ns, int64_t *calls);
    /* Text of the last status of this session that was not 0; of `create` when session is NULL. */
    const char *(*error)(void *session);
    void (*destroy)(void *session);
    /* Inputs, outputs, dims, launches; then the rank of each input and of each output. */
    const int64_t *(*signature)(void);
} tw_functions;

typedef struct {
    tw_functions call;
    void *session;
    void *library;   /* of dlopen */
    void *file;      /* mapping of the whole artifact */
    size_t file_size;
    int code;        /* descriptor of the code in memory */
} tw_model;

/* What a status of tw_open means. */
static inline const char *tw_open_error(int status)
{
    switch (status) {
    case TW_OK: return "no error";
    case TW_CANNOT_READ: return "the artifact cannot be read";
    case TW_NOT_AN_ARTIFACT: return "not a tilewright artifact";
    case TW_DAMAGED: return "the artifact is damaged";
    case TW_NO_CODE_FOR_THIS_CPU: return "the artifact has no code for this CPU";
    case TW_CANNOT_LOAD: return "the model's code cannot be loaded";
    case TW_NO_SUCH_SLICE: return "the artifact has no such slice";
    case TW_OUT_OF_MEMORY: return "out of memory, or no more threads can be started";
    default: return "unknown status";
    }
}

static inline uint64_t tw_word_(const unsigned char *p, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) value = value << 8 | p[i];
    return value;
}

static inline uint32_t tw_crc32_(const unsigned char *data, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

typedef struct {
    const char *name;
    size_t name_size, offset, size;
    uint32_t crc32;
} tw_entry_;

/* Read the directory entry at *at and move to the next; 0 or TW_DAMAGED. Bounds: see APPNOTE 4.3. */
static inline int tw_next_entry_(const unsigned char *file, size_t size, size_t *at, tw_entry_ *out)
{
    const unsigned char *c = file + *at;
    if (size < 46 || *at > size - 46 || tw_word_(c, 4) != 0x02014B50) return TW_DAMAGED;
    size_t name = tw_word_(c + 28, 2), extra = tw_word_(c + 30, 2), comment = tw_word_(c + 32, 2);
    if (*at + 46 + name + extra + comment > size) return TW_DAMAGED;
    uint64_t stored = tw_word_(c + 24, 4), header = tw_word_(c + 42, 4);
    uint64_t packed = tw_word_(c + 20, 4);
    uint64_t method = tw_word_(c + 10, 2);
    int plan = method == 8 && name == 9 && memcmp(c + 46, "plan.json", 9) == 0; /* not read here */
    if (method != 0 && !plan) return TW_DAMAGED; /* compressed */
    const unsigned char *e = c + 46 + name, *end = e + extra;
    while (end - e >= 4) { /* ZIP64: only the fields that did not fit, in this order */
        size_t length = tw_word_(e + 2, 2);
        if (length > (size_t)(end - e) - 4) return TW_DAMAGED;
        if (tw_word_(e, 2) == 1) {
            const unsigned char *w = e + 4, *last = e + 4 + length;
            uint64_t *fields[3] = {&stored, &packed, &header};
            for (int i = 0; i < 3; i++) {
                if (*fields[i] != 0xFFFFFFFF) continue;
                if (last - w < 8) return TW_DAMAGED;
                *fields[i] = tw_word_(w, 8);
                w += 8;
            }
        }
        e += 4 + length;
    }
    if (plan) stored = packed;
    if (stored != packed || header > size || size - header < 30) return TW_DAMAGED;
    const unsigned char *l = file + header;
    uint64_t offset = header + 30 + tw_word_(l + 26, 2) + tw_word_(l + 28, 2);
    if (tw_word_(l, 4) != 0x04034B50 || offset > size || size - offset < stored) return TW_DAMAGED;
    out->name = (const char *)c + 46;
    out->name_size = name;
    out->offset = offset;
    out->size = stored;
    out->crc32 = (uint32_t)tw_word_(c + 16, 4);
    *at += 46 + name + extra + comment;
    return TW_OK;
}

/* Find the ZIP directory: number of entries and offset of the first; 0 or TW_DAMAGED. */
static inline int tw_directory_(const unsigned char *file, size_t size, size_t *count, size_t *at)
{
    if (size < 22) return TW_DAMAGED;
    const unsigned char *end = file + size - 22;
    if (tw_word_(end, 4) != 0x06054B50) return TW_DAMAGED;
    *count = tw_word_(end + 10, 2);
    uint64_t start = tw_word_(end + 16, 4);
    if (start == 0xFFFFFFFF) {
        if (size < 22 + 20 + 56 || tw_word_(end - 20, 4) != 0x07064B50) return TW_DAMAGED;
        uint64_t end64 = tw_word_(end - 12, 8);
        if (end64 > size - 56 || tw_word_(file + end64, 4) != 0x06064B50) return TW_DAMAGED;
        *count = tw_word_(file + end64 + 32, 8);
        start = tw_word_(file + end64 + 48, 8);
    }
    if (start >= size) return TW_DAMAGED;
    *at = start;
    return TW_OK;
}

static inline int tw_name_is_(const tw_entry_ *e, const char *name)
{
    return e->name_size == strlen(name) && memcmp(e->name, name, e->name_size) == 0;
}

/* N of model.NAME.sliceN.so, 0 of other names. */
static inline int tw_code_slice_(const tw_entry_ *e)
{
    const char *end = e->name + e->name_size;
    if (e->name_size < 17 || memcmp(end - 10, ".slice", 6) != 0) return 0;
    return end[-4] >= '1' && end[-4] <= '9' ? end[-4] - '0' : 0;
}

/* model.NAME.so: 2 to 4 for x86-64-v2 to -v4, 5 for names of single CPUs, which are more special than
 * the levels and are tried first; 0 when it is not code. */
static inline int tw_code_rank_(const tw_entry_ *e)
{
    if (e->name_size < 9 || memcmp(e->name, "model.", 6) != 0) return 0;
    if (memcmp(e->name + e->name_size - 3, ".so", 3) != 0) return 0;
    const char *level = "x86-64-v";
    if (e->name_size >= 15 && memcmp(e->name + 6, level, 8) == 0) {
        int digit = e->name[14] - '0';
        if (digit >= 2 && digit <= 4) return digit;
    }
    return 5;
}

static inline void tw_unload_(tw_model *m)
{
    if (m->library) dlclose(m->library);
    if (m->code >= 0) close(m->code);
    m->library = NULL;
    m->code = -1;
}

/* dlopen one entry and create a session. */
static inline int tw_try_code_(
    tw_model *m, const unsigned char *code, size_t size, const void *weights, int threads)
{
    char path[64];
    /* The descriptor stays open while the library is: dlopen takes equal paths for equal files. */
    m->code = (int)syscall(SYS_memfd_create, "tilewright", 1u);
    if (m->code < 0) return TW_CANNOT_LOAD;
    for (size_t done = 0; done < size;) {
        ssize_t wrote = write(m->code, code + done, size - done);
        if (wrote <= 0) return TW_CANNOT_LOAD;
        done += (size_t)wrote;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", m->code);
    m->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!m->library) return TW_CANNOT_LOAD;
    struct {
        const char *name;
        void *slot;
    } wanted[] = {
        {"tw_abi", &m->call.abi},         {"tw_create", &m->call.create},
        {"tw_shapes", &m->call.shapes},   {"tw_run", &m->call.run},
        {"tw_profile", &m->call.profile}, {"tw_arena_bytes", &m->call.arena_bytes},
        {"tw_error", &m->call.error},     {"tw_destroy", &m->call.destroy},
        {"tw_signature", &m->call.signature},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *symbol = dlsym(m->library, wanted[i].name);
        if (!symbol) return TW_CANNOT_LOAD;
        memcpy(wanted[i].slot, &symbol, sizeof symbol);
    }
    if (m->call.abi() != 1) return TW_CANNOT_LOAD;
    return m->call.create(weights, threads, &m->session);
}

static inline void tw_close(tw_model *m)
{
    if (m->session) m->call.destroy(m->session);
    m->session = NULL;
    tw_unload_(m);
    if (m->file) munmap(m->file, m->file_size);
    m->file = NULL;
}

static inline int tw_open_mapped_(tw_model *m, int threads, int slice)
{
    const unsigned char *file = (const unsigned char *)m->file;
    size_t count, start, at;
    if (m->file_size < 22 || tw_word_(file, 4) != 0x04034B50) return TW_NOT_AN_ARTIFACT;
    int status = tw_directory_(file, m->file_size, &count, &start);
    if (status != TW_OK) return status;
    const unsigned char *weights = NULL;
    int widest = 0, known = !slice;
    tw_entry_ entry;
    at = start;
    for (size_t i = 0; i < count; i++) {
        status = tw_next_entry_(file, m->file_size, &at, &entry);
        if (status != TW_OK) return status;
        if (tw_code_rank_(&entry)) {
            int bits = tw_code_slice_(&entry);
            if (bits > widest) widest = bits;
            if (bits == slice) known = 1;
        }
        if (!tw_name_is_(&entry, "weights.safetensors")) continue;
        /* The data begins after an 8-byte length and that many bytes of header. */
        if (entry.size < 8) return TW_DAMAGED;
        uint64_t header = tw_word_(file + entry.offset, 8);
        if (header > entry.size - 8) return TW_DAMAGED;
        weights = file + entry.offset + 8 + header;
    }
    if (!weights) return TW_DAMAGED;
    if (!known) return TW_NO_SUCH_SLICE;
    if (!slice) slice = widest;
    int found = 0;
    for (int rank = 5; rank >= 2; rank--) {
        at = start;
        for (size_t i = 0; i < count; i++) {
            tw_next_entry_(file, m->file_size, &at, &entry);
            if (tw_code_rank_(&entry) != rank || tw_code_slice_(&entry) != slice) continue;
            const unsigned char *code = file + entry.offset;
            if (tw_crc32_(code, entry.size) != entry.crc32) return TW_DAMAGED;
            status = tw_try_code_(m, code, entry.size, weights, threads);
            if (status == TW_OK || status == TW_OUT_OF_MEMORY) return status;
            found = status;
            tw_unload_(m);
        }
    }
    return found == TW_CPU_LACKS_FEATURE || !found ? TW_NO_CODE_FOR_THIS_CPU : found;
}

/* As tw_open, with the code that reads so many bits of the weights' codes; 0 for the most. */
static inline int tw_open_slice(const char *path, int threads, int slice, tw_model *out)
{
    struct stat info;
    memset(out, 0, sizeof *out);
    out->code = -1;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return TW_CANNOT_READ;
    if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(descriptor);
        return TW_CANNOT_READ;
    }
    out->file_size = (size_t)info.st_size;
    void *file = MAP_FAILED;
    if (out->file_size) file = mmap(NULL, out->file_size, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (file == MAP_FAILED) return out->file_size ? TW_CANNOT_READ : TW_NOT_AN_ARTIFACT;
    out->file = file;
    int status = tw_open_mapped_(out, threads, slice);
    if (status != TW_OK) tw_close(out);
    return status;
}

/* Map the artifact, load the best code that this CPU runs, create a session. On failure nothing
 * stays open; tw_open_error has the text of the status. */
static inline int tw_open(const char *path, int threads, tw_model *out)
{
    return tw_open_slice(path, threads, 0, out);
}

#ifdef __cplusplus
}
#endif
#endif
