/* The link that MLPerf Tiny's runner speaks: text commands that end in '%', answered by lines of which the
 * last is "m-ready" (github.com/mlcommons/tiny, benchmark/api). Only inference; docs/protocol.md states the
 * commands, and what is answered differently from the reference.
 *
 * Whatever bytes are fed, it writes only to its own buffers and, before an inference, to the inputs.
 */
#include <string.h>
#include "../link/link.h"
#include "config.h"

#define COMMAND_BYTES   80
#define TOO_LONG        (COMMAND_BYTES + 1)
#define BYTES_A_LINE    8
#define DEFAULT_WARMUPS 10
#define ALL_STEPS       0xFFFFFFFFu
#define PROFILE         "ULPMark for tinyML Firmware V0.0.1" /* of the API; the runner shows it */

static struct {
    const ft_model_t *model;
    const ft_link_port_t *port;
    uint32_t expected; /* bytes that the last `db load` announced */
    uint32_t loaded;
    uint8_t input[(FT_MLPERF_INPUT_BYTES + 3) / 4 * 4]; /* inferences may overwrite the tensors */
    char command[COMMAND_BYTES + 1];
    uint8_t length; /* of the command so far, or TOO_LONG */
} monitor;

/* --- printing
 * --------------------------------------------------------------------------------------------------- */

/* Own loops for strings: no C library has to be there, and GCC makes no call of strlen of one with a limit.
 */
static size_t length_of(const char *text) {
    size_t length = 0;
    while (length < UINT16_MAX && text[length] != 0) {
        length++;
    }
    return length;
}

static void say(const char *text) {
    monitor.port->write((const uint8_t *)text, length_of(text));
}

static void say_number(uint64_t value) {
    char digits[21];
    char *first = digits + sizeof digits - 1;
    *first = 0;
    do {
        *--first = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    say(first);
}

static void say_with(const char *before, uint64_t value, const char *after) {
    say(before);
    say_number(value);
    say(after);
}

static void say_hex(uint8_t byte) {
    static const char digits[] = "0123456789abcdef";
    const char text[] = {digits[byte >> 4], digits[byte & 15], 0};
    say(text);
}

/* What a host sent, back to it: nothing that could end the line or control a terminal. */
static void say_printable(const char *text) {
    for (; *text != 0; text++) {
        const char printed[] = {(char)(*text < ' ' || *text > '~' ? '?' : *text), 0};
        say(printed);
    }
}

/* Three decimals, rounded as printf does: from the exact value, ties to even. */
static void say_decimal(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t exponent = bits >> 23 & 0xFF, fraction = bits & 0x7FFFFF;
    const int shift = 150 - (int)(exponent != 0 ? exponent : 1); /* value = significand / 2^shift */
    uint64_t thousandths = (uint64_t)(exponent != 0 ? fraction | 1u << 23 : fraction) * 1000u;
    if (exponent == 0xFF && fraction != 0) {
        say("nan");
        return;
    }
    say(bits >> 31 ? "-" : "");
    if (shift < -29) { /* 2^53 and more */
        say("inf");
        return;
    }
    if (shift <= 0) {
        thousandths <<= -shift;
    } else if (shift > 40) { /* thousandths < 2^34: below a half */
        thousandths = 0;
    } else {
        const uint64_t rest = thousandths & (((uint64_t)1 << shift) - 1), half = (uint64_t)1 << (shift - 1);
        thousandths >>= shift;
        thousandths += rest > half || (rest == half && thousandths % 2 != 0);
    }
    const uint32_t decimals = (uint32_t)(thousandths % 1000);
    const char text[] = {'.', (char)('0' + decimals / 100), (char)('0' + decimals / 10 % 10),
                         (char)('0' + decimals % 10), 0};
    say_number(thousandths / 1000);
    say(text);
}

/* --- reading commands
 * ------------------------------------------------------------------------------------------- */

/* The next word, ended by a zero in place of the space behind it; NULL when there is none. */
static char *next_word(char **rest) {
    char *word = *rest;
    while (*word == ' ') {
        word++;
    }
    char *end = word;
    while (*end != ' ' && *end != 0) {
        end++;
    }
    *rest = *end == ' ' ? end + 1 : end;
    *end = 0;
    return end == word ? NULL : word;
}

static int is(const char *word, const char *name) {
    const size_t length = length_of(name);
    return length_of(word) == length && memcmp(word, name, length) == 0;
}

/* The number in a word, at most 2^31 - 1; -1 when it is none. */
static int32_t number(const char *word) {
    int64_t value = 0;
    for (; *word != 0; word++) {
        if (*word < '0' || *word > '9') {
            return -1;
        }
        value = value * 10 + (*word - '0');
        value = value > INT32_MAX ? INT32_MAX : value;
    }
    return (int32_t)value;
}

/* The next word's number, `otherwise` without one. */
static int32_t next_number(char **rest, int32_t otherwise) {
    const char *word = next_word(rest);
    return word != NULL ? number(word) : otherwise;
}

static int hex_digit(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    const char lower = (char)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* --- the input's bytes
 * ------------------------------------------------------------------------------------------ */

static void begin_load(char *rest) {
    const int32_t bytes = next_number(&rest, 0);
    if (bytes <= 0) {
        say("e-[Command 'db load' needs a number of bytes above 0]\r\n");
    } else if (bytes > FT_MLPERF_INPUT_BYTES) {
        say_with("e-[Supplied buffer size ", (uint32_t)bytes, "");
        say_with(" exceeds maximum of ", FT_MLPERF_INPUT_BYTES, "]\r\n");
    } else {
        monitor.expected = (uint32_t)bytes;
        monitor.loaded = 0;
        say_with("m-[Expecting ", (uint32_t)bytes, " bytes]\r\n");
    }
}

static void load(const char *digits) {
    const size_t count = length_of(digits);
    for (size_t i = 0; i < count; i++) {
        if (hex_digit(digits[i]) < 0) {
            say("e-[Invalid hex digit]\r\n");
            return;
        }
    }
    if (count % 2 != 0) {
        say("e-[Insufficient number of hex digits]\r\n");
    } else if (monitor.loaded == monitor.expected) {
        say("e-[No bytes are expected; use 'db load' first]\r\n");
    } else {
        for (size_t i = 0; i < count && monitor.loaded < monitor.expected; i += 2) {
            const int byte = hex_digit(digits[i]) << 4 | hex_digit(digits[i + 1]);
            monitor.input[monitor.loaded++] = (uint8_t)byte;
        }
        if (monitor.loaded == monitor.expected) {
            say("m-load-done\r\n");
        }
    }
}

static void print_input(char *rest) {
    const int32_t count = next_number(&rest, (int32_t)monitor.loaded), offset = next_number(&rest, 0);
    if (count < 0 || offset < 0) {
        say("e-[Command 'db print' needs numbers from 0 up]\r\n");
        return;
    }
    for (uint32_t i = 0; i < (uint32_t)count && (uint32_t)offset + i < monitor.loaded; i++) {
        say(i % BYTES_A_LINE != 0 ? "-" : i != 0 ? "\r\nm-buffer-" : "m-buffer-");
        say_hex(monitor.input[(uint32_t)offset + i]);
    }
    say("\r\n");
}

static void buffer(char *rest) {
    const char *word = next_word(&rest);
    if (word == NULL) {
        say("e-[Command 'db' requires a subcommand]\r\n");
    } else if (is(word, "load")) {
        begin_load(rest);
    } else if (is(word, "print")) {
        print_input(rest);
    } else {
        load(word);
    }
}

/* --- inference
 * -------------------------------------------------------------------------------------------------- */

static void timestamp(void) {
    const ft_link_port_t *port = monitor.port;
    const uint64_t hz = port->ticks_hz != NULL ? port->ticks_hz() : 0;
    const uint64_t ticks = hz != 0 && port->ticks != NULL ? port->ticks() : 0;
    const uint64_t us = hz != 0 ? ticks / hz * 1000000u + ticks % hz * 1000000u / hz : 0;
    say_with("m-lap-us-", us, "\r\n");
}

static void run(int32_t times) {
    while (times-- > 0) {
        const uint8_t *next = monitor.input;
        for (uint16_t i = 0; i < monitor.model->tensor_count; i++) {
            const ft_tensor_t *tensor = &monitor.model->tensors[i];
            if (tensor->role == FT_INPUT) {
                memcpy(tensor->data, next, tensor->bytes);
                next += tensor->bytes;
            }
        }
        monitor.model->infer(0, ALL_STEPS);
    }
}

static float real(const ft_tensor_t *tensor, uint32_t index, ft_mlperf_grid_t grid) {
    float value;
    switch (tensor->dtype) {
    case FT_F32:
        memcpy(&value, tensor->data + 4 * index, sizeof value);
        return value;
    case FT_U8:
        return grid.scale * (float)(tensor->data[index] - grid.zero_point);
    default:
        return grid.scale * (float)((int8_t)tensor->data[index] - grid.zero_point);
    }
}

static void results(void) {
    const char *before = "m-results-[";
    const ft_mlperf_grid_t *grid = ft_mlperf_grids;
    for (uint16_t i = 0; i < monitor.model->tensor_count; i++) {
        const ft_tensor_t *tensor = &monitor.model->tensors[i];
        if (tensor->role != FT_OUTPUT) {
            continue;
        }
        const uint32_t count = (uint32_t)tensor->shape[0] * tensor->shape[1] * tensor->shape[2];
        for (uint32_t k = 0; k < count; k++) {
            say(before);
            say_decimal(real(tensor, k, *grid));
            before = ",";
        }
        grid++;
    }
    say("]\r\n");
}

static void infer(char *rest) {
    const int32_t times = next_number(&rest, 1), warmups = next_number(&rest, DEFAULT_WARMUPS);
    if (times <= 0) {
        say("e-[Inference iterations must be >0]\r\n");
    } else if (warmups < 0) {
        say("e-[Inference warmup must be >=0]\r\n");
    } else if (monitor.loaded != FT_MLPERF_INPUT_BYTES) {
        say_with("e-[The input has ", monitor.loaded, "");
        say_with(" of ", FT_MLPERF_INPUT_BYTES, " bytes]\r\n");
    } else {
        say_with("m-warmup-start-", (uint32_t)warmups, "\r\n");
        run(warmups);
        say("m-warmup-done\r\n");
        say_with("m-infer-start-", (uint32_t)times, "\r\n");
        timestamp();
        run(times);
        timestamp();
        say("m-infer-done\r\n");
        results();
    }
}

/* --- commands
 * --------------------------------------------------------------------------------------------------- */

static void help(void) {
    say(PROFILE "\r\n\r\n"
                "help               this text\r\n"
                "name               name of the device\r\n"
                "profile            profile and model\r\n"
                "timestamp          microseconds since the start\r\n"
                "db load N          expect N bytes of input\r\n"
                "db HH[HH]*         the next bytes, in hex\r\n"
                "db print [N] [AT]  N of them from AT on\r\n"
                "infer N [W]        N inferences after W that are not timed (10)\r\n"
                "results            the outputs\r\n");
}

static void execute(char *rest) {
    const char *word = next_word(&rest);
    if (word == NULL) {
        say("e-[Empty command]\r\n");
    } else if (is(word, "name")) {
        say("m-name-dut-[fieldtune]\r\n");
    } else if (is(word, "timestamp")) {
        timestamp();
    } else if (is(word, "profile")) {
        say("m-profile-[" PROFILE "]\r\nm-model-[" FT_MLPERF_MODEL "]\r\n");
    } else if (is(word, "help")) {
        help();
    } else if (is(word, "db")) {
        buffer(rest);
    } else if (is(word, "infer")) {
        infer(rest);
    } else if (is(word, "results")) {
        results();
    } else {
        say("e-[Unknown command: ");
        say_printable(word);
        say("]\r\n");
    }
}

static void end_command(void) {
    if (monitor.length == TOO_LONG) {
        say("e-[Command exceeds 80 characters]\r\n");
    } else {
        monitor.command[monitor.length] = 0;
        execute(monitor.command);
    }
    say("m-ready\r\n");
    monitor.length = 0;
}

void ft_link_feed(const uint8_t *data, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (data[i] == '%') {
            end_command();
        } else if (data[i] < ' ') {
            continue; /* line ends that a terminal sends, zeros of another protocol's host */
        } else if (monitor.length < COMMAND_BYTES) {
            monitor.command[monitor.length++] = (char)data[i];
        } else {
            monitor.length = TOO_LONG;
        }
    }
}

void ft_link_open(const ft_model_t *model, const ft_link_port_t *port) {
    memset(&monitor, 0, sizeof monitor);
    monitor.model = model;
    monitor.port = port;
    model->reset();
    say("m-init-done\r\n");
    say("m-ready\r\n");
}

int ft_link_work(void) {
    return 0; /* the API knows no samples of the board's own */
}

void ft_link_log(const char *text) {
    (void)text;
}
