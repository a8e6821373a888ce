/* Runs a model from C: reads raw input bytes from files, writes the first output's bytes.
 *
 *     cc -O2 example.c -o example -ldl
 *     ./example model.tw 2 output.bin 4 input0.bin 7,4 input1.bin 7
 *
 * Arguments: artifact, threads, file for the first output, bytes per element of the outputs'
 * widest type; then for each input a file with its raw bytes and its shape.
 */
#define _GNU_SOURCE 1
#include "tilewright.h"

#include <stdlib.h>

enum { MAX_TENSORS = 16, MAX_RANK = 64 };

static void *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    void *data = malloc((size_t)size + 1);
    if (data && fread(data, 1, (size_t)size, file) != (size_t)size) {
        free(data);
        data = NULL;
    }
    fclose(file);
    return data;
}

static size_t elements(const int64_t *shape, int64_t rank)
{
    size_t count = 1;
    for (int64_t axis = 0; axis < rank; axis++) count *= (size_t)shape[axis];
    return count;
}

int main(int argc, char **argv)
{
    tw_model model;
    tw_tensor in[MAX_TENSORS], out[MAX_TENSORS];
    static int64_t shapes[2 * MAX_TENSORS][MAX_RANK];
    if (argc < 5) {
        fprintf(stderr, "usage: example MODEL THREADS OUTPUT ELEMENT_BYTES [INPUT SHAPE]...\n");
        return 2;
    }
    int status = tw_open(argv[1], atoi(argv[2]), &model);
    if (status != TW_OK) {
        fprintf(stderr, "%s: %s\n", argv[1], tw_open_error(status));
        return 1;
    }
    const int64_t *signature = model.call.signature();
    int64_t inputs = signature[0], outputs = signature[1];
    const int64_t *ranks = signature + 4;
    if (argc != 5 + 2 * inputs || inputs > MAX_TENSORS || outputs > MAX_TENSORS) {
        fprintf(stderr, "%s: the model has %d inputs\n", argv[1], (int)inputs);
        return 2;
    }
    for (int64_t i = 0; i < inputs; i++) {
        in[i].data = read_file(argv[5 + 2 * i]);
        in[i].shape = shapes[i];
        char *text = argv[6 + 2 * i];
        for (int64_t axis = 0; axis < ranks[i]; axis++) {
            shapes[i][axis] = strtoll(text, &text, 10);
            if (*text == ',') text++;
        }
        if (!in[i].data) {
            fprintf(stderr, "%s: cannot be read\n", argv[5 + 2 * i]);
            return 1;
        }
    }
    for (int64_t i = 0; i < outputs; i++) out[i].shape = shapes[MAX_TENSORS + i];
    size_t width = (size_t)atoi(argv[4]);
    status = model.call.shapes(model.session, in, out);
    for (int64_t i = 0; i < outputs && status == TW_OK; i++)
        out[i].data = malloc(elements(out[i].shape, ranks[inputs + i]) * width + 1);
    if (status == TW_OK) status = model.call.run(model.session, in, out);
    if (status != TW_OK) {
        fprintf(stderr, "%s: %s\n", argv[1], model.call.error(model.session));
        tw_close(&model);
        return 1;
    }
    FILE *file = fopen(argv[3], "wb");
    if (!file) return 1;
    fwrite(out[0].data, width, elements(out[0].shape, ranks[inputs]), file);
    fclose(file);
    tw_close(&model);
    return 0;
}
