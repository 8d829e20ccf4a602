/* The flash controllers of the STM32s (ST RM0433, RM0455, RM0385, RM0432, RM0456: FLASH). What they share is
 * an order: wait, unlock, choose, start, look for errors. PART says which one this is; the sectors, the
 * fields and the banks are written down here once more, from the manuals' tables. */
#include "cortex_m.h"
#include "model.h"
#include "port_config.h"

/* The core's part of the port. */
void ft_caches_drop(uint32_t address, uint32_t bytes);
void ft_bus_faults_off(void);
void ft_bus_faults_on(void);

const Area AREA = {FT_PORT_STORE_START, FT_PORT_STORE_BYTES, FT_PORT_STORE_SECTOR, FT_PORT_STORE_UNIT};

#define H743 1
#define H7A3 2
#define F746 3
#define L4R5 4
#define U575 5

static constexpr bool IS_H7 = PART == H743 || PART == H7A3, IS_M7 = IS_H7 || PART == F746;

/* Registers, counted from the controller's address (bank 2's, on an H7), and their bits. */
struct Map {
    uint32_t base, keys, status, clear, control, ecc, options;
    uint32_t lock, start, program, erase, sector_at, sector_bits, bank_2, size, words;
    uint32_t sequence_error, protection_error, busy;
};

static constexpr Map MAP =
    PART == H743 ? Map{0x52002100, 0x04, 0x10, 0x14, 0x0C,    ~0u,     0x52002018, 1u << 0,  1u << 7, 1u << 1,
                       1u << 2,    8,    3,    0,    3u << 4, 3u << 4, 1u << 18,   1u << 17, 5u}
    : PART == H7A3 ? Map{0x52002100, 0x04, 0x10, 0x14, 0x0C, ~0u, 0x52002018, 1u << 0,  1u << 5, 1u << 1,
                         1u << 2,    6,    7,    0,    0,    0,   1u << 18,   1u << 17, 5u}
    : PART == F746 ? Map{0x40023C00, 0x04, 0x0C, 0x0C, 0x10,    ~0u,     ~0u,     1u << 31, 1u << 16, 1u << 0,
                         1u << 1,    3,    4,    0,    3u << 8, 2u << 8, 1u << 7, 1u << 4,  1u << 16}
    : PART == L4R5
        ? Map{0x40022000, 0x08, 0x10, 0x10,     0x14, 0x40022018, 0x40022020, 1u << 31, 1u << 16, 1u << 0,
              1u << 1,    3,    8,    1u << 11, 0,    0,          1u << 7,    1u << 4,  1u << 16}
        : Map{0x40022000, 0x08, 0x20, 0x20,     0x28, 0x40022030, 0x40022040, 1u << 31, 1u << 16, 1u << 0,
              1u << 1,    3,    7,    1u << 11, 0,    0,          1u << 7,    1u << 4,  1u << 16};
static constexpr uint32_t WAITING = IS_H7          ? 1u << 1
                                    : PART == U575 ? 1u << 17
                                                   : 0; /* for the rest of a unit */
static constexpr uint32_t UNCORRECTED = IS_H7 ? 1u << 26 : 1u << 31;

static uint32_t sector_start(uint32_t number) {
    static constexpr uint32_t KB = 1024;
    switch (PART) {
    case H743:
        return 0x08100000 + number * 128 * KB;
    case L4R5:
        return 0x08100000 + number * 4 * KB;
    case F746:
        return 0x08000000 + (number < 4 ? number * 32 : number == 4 ? 128 : (number - 4) * 256) * KB;
    default:
        return 0x08100000 + number * 8 * KB;
    }
}

static bool faults_are_off;

class Stm32 : public Model {
    enum { LOCKED, FIRST_KEY, OPEN, SHUT } lock = LOCKED;
    uint32_t control = 0, status = 0, busy = 0;
    uint32_t unit[FT_PORT_STORE_UNIT / 4], unit_at = 0, unit_words = 0;
    bool written = false; /* and no barrier since, on a core that may put writes off */
    bool swapped = false;
    std::map<uint32_t, uint32_t> lines;         /* of a cache, by word */
    uint32_t data_cache = 1u << 10 | 5u;        /* FLASH_ACR of an L4 */
    uint32_t cache_on = 1, cache_busy = 0;      /* of a U5 */
    bool corrected = true, uncorrected = false; /* ECCC, of some other read; ECCD */

    bool corrects_errors() const override { return PART != F746; }

    void start_operation() {
        if (PART == L4R5 && data_cache & 1u << 10) {
            broken("written with the data cache on, which corrupts it");
        }
        if (PART == U575 && (cache_on || cache_busy)) {
            broken("written with the cache on");
        }
        busy = 3;
    }

    bool refused(uint32_t errors_before) {
        if (errors_before) {
            status |= MAP.sequence_error;
        } else if (protected_from_writing) {
            status |= MAP.protection_error;
        }
        return status & (MAP.sequence_error | MAP.protection_error);
    }

    uint32_t errors() const { return status & ~UNCORRECTED & ~(IS_H7 ? 3u << 23 : 0); }

    void start_erase() {
        const uint32_t number = control >> MAP.sector_at & ((1u << MAP.sector_bits) - 1);
        const uint32_t first = sector_start(number), bytes = sector_start(number + 1) - first;
        if (MAP.bank_2 && !(control & MAP.bank_2)) {
            broken("an erase in bank 1");
        }
        if (refused(errors())) {
            return;
        }
        start_operation();
        if (!in_flash(first) || bytes != FT_PORT_STORE_SECTOR) {
            broken("another sector");
        }
        erase(first, bytes);
    }

    void write_control(uint32_t value) {
        if (busy) {
            broken("the control register while busy");
        }
        if (lock != OPEN) {
            return;
        }
        if (unit_words > 0 && !(value & MAP.program)) {
            broken("half a unit");
        }
        control = value & ~MAP.start;
        if (value & MAP.lock) {
            lock = LOCKED;
            control &= ~MAP.lock;
        }
        if (value & MAP.start && control & MAP.erase) {
            start_erase();
        }
    }

    void write_key(uint32_t value) {
        lock = lock == LOCKED && value == 0x45670123      ? FIRST_KEY
               : lock == FIRST_KEY && value == 0xCDEF89AB ? OPEN
                                                          : SHUT;
    }

    void write_word(uint32_t address, uint32_t value) {
        if (written) {
            broken("a word while the write before may still be on its way");
        }
        if (busy) {
            broken("a word while busy");
        }
        if (lock != OPEN || !(control & MAP.program) || control & MAP.erase) {
            status |= MAP.sequence_error;
            return;
        }
        if ((control & MAP.size) != MAP.words) {
            status |= 1u << 6; /* PGPERR of an F7; an H743 is only slower */
            return;
        }
        if (unit_words == 0) {
            unit_at = address;
        }
        if (unit_at % FT_PORT_STORE_UNIT != 0 || address != unit_at + 4 * unit_words) {
            broken("words in another order than that of a unit");
        }
        unit[unit_words++] = value;
        written = IS_M7;
        if (unit_words < FT_PORT_STORE_UNIT / 4) {
            return;
        }
        unit_words = 0;
        if (refused(errors())) {
            return;
        }
        start_operation();
        if (PART == L4R5 || PART == U575) {
            if (!is_blank(unit_at, sizeof unit)) {
                status |= 1u << 3; /* PROGERR */
                return;
            }
        }
        for (uint32_t i = 0; i < FT_PORT_STORE_UNIT / 4; i++) { /* written through, where it is cached */
            if (lines.count(unit_at + 4 * i)) {
                lines[unit_at + 4 * i] = unit[i];
            }
        }
        program(unit_at, unit, FT_PORT_STORE_UNIT / 4);
    }

    bool caching() const {
        return IS_M7 || (PART == L4R5 && data_cache & 1u << 10) || (PART == U575 && cache_on && !cache_busy);
    }

    uint32_t read_word(uint32_t address) {
        static constexpr uint32_t LINE = IS_M7 ? 32 : 16;
        const uint32_t first = address / LINE * LINE;
        if (busy) {
            broken("read while busy");
        }
        if (caching() && lines.count(address)) {
            return lines[address];
        }
        bool torn_line = false;
        for (uint32_t at = first; at < first + LINE; at += 4) {
            torn_line |= IS_M7 ? is_torn(at) : false;
        }
        if (torn_line || is_torn(address)) {
            report_torn();
            return word(address) ^ 0x10;
        }
        for (uint32_t at = first; at < first + LINE && caching(); at += 4) {
            if (!is_torn(at)) {
                lines[at] = word(at);
            }
        }
        return word(address);
    }

    void report_torn() {
        if (IS_H7) {
            status |= UNCORRECTED;
            if (!faults_are_off) {
                broken("a bus fault");
            }
            return;
        }
        if (corrected) {
            broken("a torn unit goes unnoticed while the flag of a corrected one is set");
        }
        uncorrected = true;
        if constexpr (PART == L4R5 || PART == U575) {
            ft_nmi_handler();
        }
        if (uncorrected) {
            broken("an NMI for ever");
        }
    }

    uint32_t read_status() {
        if (written) {
            broken("the status while a write may still be on its way");
        }
        const uint32_t now = status | (busy ? MAP.busy : 0) | (unit_words ? WAITING : 0);
        busy -= busy > 0;
        return now;
    }

  public:
    Stm32() { reset(); }
    bool has_banks() const override { return PART != F746; }
    bool reports_errors() const override { return true; }
    void leave_open() override { lock = OPEN; }
    void swap_banks(bool yes) override { swapped = yes; }
    bool at_rest() const override {
        return lock == LOCKED && busy == 0 && !faults_are_off && cache_on && data_cache == (1u << 10 | 5u) &&
               (control & ~MAP.size) == 0;
    }
    void reset() override {
        lock = LOCKED;
        control = IS_H7 ? MAP.size : 0;
        status = busy = unit_words = 0;
        corrected = true;
        uncorrected = false;
        written = false;
        lines.clear();
        data_cache = 1u << 10 | 5u;
        cache_on = 1;
        cache_busy = 0;
        faults_are_off = false;
    }
    void barrier() override { written = false; }
    void drop(uint32_t address, uint32_t bytes) {
        if (busy) {
            broken("caches dropped while busy");
        }
        lines.erase(lines.lower_bound(address / 32 * 32),
                    lines.lower_bound((address + bytes + 31) / 32 * 32));
    }

    uint32_t read(uint32_t address) override {
        if (in_flash(address)) {
            return read_word(address);
        }
        if (address == MAP.base + MAP.status) {
            return read_status();
        }
        if (address == MAP.base + MAP.control) {
            return control | (lock == OPEN ? 0 : MAP.lock);
        }
        if (address == MAP.options) {
            return PART == L4R5 ? (swapped ? 1u << 20 : 0) | 1u << 22
                   : swapped    ? (IS_H7 ? 1u << 31 : 1u << 20)
                                : 0;
        }
        if (address == MAP.ecc) {
            return (uncorrected ? UNCORRECTED | 1u << 21 : 0) | (corrected ? 1u << 30 : 0);
        }
        if (PART == L4R5 && address == 0x40022000) {
            return data_cache;
        }
        if (PART == U575 && address == 0x40030400) {
            return cache_on;
        }
        if (PART == U575 && address == 0x40030404) {
            cache_busy -= cache_busy > 0;
            return cache_busy > 0;
        }
        broken("a register that is none");
    }

    void write(uint32_t address, uint32_t value) override {
        if (in_flash(address)) {
            write_word(address, value);
        } else if (address == MAP.base + MAP.keys) {
            write_key(value);
        } else if (address == MAP.base + MAP.control) {
            write_control(value);
        } else if (address == MAP.base + MAP.clear) {
            status &= ~value;
        } else if (address == MAP.ecc) {
            uncorrected = uncorrected && !(value & UNCORRECTED);
            corrected = corrected && !(value & 1u << 30);
        } else if (PART == L4R5 && address == 0x40022000) {
            if (value & 1u << 12) {
                if (value & 1u << 10) {
                    broken("a reset of the data cache while it is on");
                }
                lines.clear();
            }
            data_cache = value;
        } else if (PART == U575 && address == 0x40030400) {
            if (cache_on && !(value & 1u)) {
                lines.clear();
                cache_busy = 3;
            }
            cache_on = value & 1u;
        } else {
            broken("a register that is none");
        }
    }
};

static Stm32 *made;

Model *make_model() {
    made = new Stm32;
    return made;
}

void ft_caches_drop(uint32_t address, uint32_t bytes) {
    made->drop(address, bytes);
}

void ft_bus_faults_off(void) {
    faults_are_off = true;
}

void ft_bus_faults_on(void) {
    faults_are_off = false;
}
