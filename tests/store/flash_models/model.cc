/* What all parts have in common: bits that programming takes from 1 to 0, and a power that may go. */
#include "model.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include "power.h"

void broken(const char *rule) {
    printf("broken: %s\n", rule);
    fflush(stdout);
    _Exit(1);
}

Model::Model() : memory(MARGIN + AREA.bytes + MARGIN, 0xFF) {
    std::fill_n(memory.begin(), MARGIN, OUTSIDE);
    std::fill_n(memory.end() - MARGIN, MARGIN, OUTSIDE);
}

bool Model::untouched_outside() const {
    const auto is_outside = [](uint8_t value) { return value == OUTSIDE; };
    return std::all_of(memory.begin(), memory.begin() + MARGIN, is_outside) &&
           std::all_of(memory.end() - MARGIN, memory.end(), is_outside);
}

bool Model::in_flash(uint32_t address) const {
    return address - (AREA.start - MARGIN) < memory.size();
}

uint8_t &Model::byte(uint32_t address) {
    return memory.at(address - (AREA.start - MARGIN));
}

uint32_t Model::word(uint32_t address) const {
    uint32_t value = 0;
    for (uint32_t i = 4; i-- > 0;) {
        value = value << 8 | const_cast<Model *>(this)->byte(address + i);
    }
    return value;
}

void Model::put(uint32_t address, uint32_t value) {
    for (uint32_t i = 0; i < 4; i++) {
        byte(address + i) = (uint8_t)(value >> 8 * i);
    }
}

bool Model::is_torn(uint32_t address) const {
    return torn.count(address / AREA.unit) != 0;
}

bool Model::is_blank(uint32_t address, uint32_t bytes) const {
    for (uint32_t at = address; at < address + bytes; at += 4) {
        if (word(at) != 0xFFFFFFFFu) {
            return false;
        }
    }
    return true;
}

bool Model::dies() {
    operations++;
    if (countdown == 0) {
        return false;
    }
    countdown--;
    return countdown == 0;
}

uint32_t Model::some_bits() {
    uint32_t drawn[2];
    for (uint32_t &word : drawn) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        word = random;
    }
    return done % 3 == 0 ? drawn[0] & drawn[1] : done % 3 == 1 ? drawn[0] : drawn[0] | drawn[1];
}

void Model::program(uint32_t address, const uint32_t *words, uint32_t count) {
    const bool cut = dies(), again = !is_blank(address, 4 * count);
    for (uint32_t i = 0; i < count && !(cut && done == CUT_NOTHING); i++) {
        const uint32_t spared = cut && done != CUT_ALL ? some_bits() : 0;
        put(address + 4 * i, word(address + 4 * i) & (words[i] | spared));
    }
    /* The code's own bits cannot be programmed twice either. */
    if (corrects_errors() && (again || (cut && done != CUT_ALL && done != CUT_NOTHING))) {
        torn[address / AREA.unit] = true;
    }
    if (cut) {
        throw PowerCut();
    }
}

void Model::erase(uint32_t address, uint32_t bytes) {
    const bool cut = dies();
    if (!cut || done == CUT_ALL) {
        std::fill_n(&byte(address), bytes, 0xFF);
        torn.erase(torn.lower_bound(address / AREA.unit), torn.lower_bound((address + bytes) / AREA.unit));
    }
    for (uint32_t at = address; at < address + bytes && cut && done != CUT_ALL && done != CUT_NOTHING;
         at += 4) {
        const uint32_t before = word(at);
        put(at, before | some_bits());
        if (corrects_errors() && word(at) != before) {
            torn[at / AREA.unit] = true;
        }
    }
    if (cut) {
        throw PowerCut();
    }
}
