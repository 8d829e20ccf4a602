/* The NVMC of an nRF51 or nRF52 (Nordic nRF51 Series Reference Manual 3.0, NVMC). */
#include "cortex_m.h"
#include "model.h"
#include "port_config.h"

const Area AREA = {FT_PORT_STORE_START, FT_PORT_STORE_BYTES, FT_PORT_STORE_SECTOR, FT_PORT_STORE_UNIT};

class Nrf : public Model {
    uint32_t config = 0, busy = 0;

    void start() {
        if (busy) {
            broken("an operation before the last one was over");
        }
        busy = 3;
    }

  public:
    bool at_rest() const override { return config == 0; }
    void reset() override { config = busy = 0; }
    uint32_t read(uint32_t address) override {
        if (in_flash(address)) {
            return word(address); /* the core stands still until it can be read */
        }
        switch (address) {
        case 0x4001E400:
            busy -= busy > 0;
            return busy == 0;
        case 0x4001E504:
            return config;
        }
        broken("a register that is none");
    }
    void write(uint32_t address, uint32_t value) override {
        if (in_flash(address)) {
            if (config != 1) {
                broken("a write that is not enabled");
            }
            start();
            program(address, &value, 1);
        } else if (address == 0x4001E504) {
            if (busy) {
                broken("another mode while busy");
            }
            config = value;
        } else if (address == 0x4001E508) {
            if (config != 2) {
                broken("an erase that is not enabled");
            }
            start();
            erase(value, AREA.sector);
        } else {
            broken("a register that is none");
        }
    }
};

Model *make_model() {
    return new Nrf;
}
