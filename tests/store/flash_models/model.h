/* A flash controller as its manual describes it, as far as a driver can break its rules. */
#ifndef MODEL_H
#define MODEL_H

#include <cstdint>
#include <map>
#include <vector>

/* Of [store]. */
struct Area {
    uint32_t start, bytes, sector, unit;
};

/* The part's: what the driver was built with. */
extern const Area AREA;

/* The power has gone; what was volatile is no more. */
struct PowerCut {};

/* Ends the program: the driver has broken a rule that a part answers with wrong data, a fault or a hang. */
[[noreturn]] void broken(const char *rule);

class Model {
  public:
    Model();
    virtual ~Model() = default;

    virtual uint32_t read(uint32_t address) = 0;
    virtual void write(uint32_t address, uint32_t value) = 0;
    virtual void reset() {}
    virtual void barrier() {}
    /* Tells whether the controller is as it should be between two operations. */
    virtual bool at_rest() const = 0;
    /* What a part may be like that has them: unlocked by a boot loader; two banks, one in the other's place;
     * errors that it reports. */
    virtual void leave_open() {}
    virtual void swap_banks(bool) {}
    virtual bool has_banks() const { return false; }
    virtual bool reports_errors() const { return false; }

    uint32_t countdown = 0, done = 0;    /* of the power cut */
    bool protected_from_writing = false; /* every operation ends with an error */
    uint32_t operations = 0;
    bool untouched_outside() const;

  protected:
    static constexpr uint32_t MARGIN = 0x40000; /* on both sides of the area */
    static constexpr uint8_t OUTSIDE = 0x5A;

    bool in_flash(uint32_t address) const;
    uint32_t word(uint32_t address) const;
    /* Brings a unit to `words`, a sector to ones: all of it, or what the power is there for. */
    void program(uint32_t address, const uint32_t *words, uint32_t count);
    void erase(uint32_t address, uint32_t bytes);
    /* Of parts with an error-correcting code: of units that cannot be read. */
    virtual bool corrects_errors() const { return false; }
    bool is_torn(uint32_t address) const;
    bool is_blank(uint32_t address, uint32_t bytes) const;

  private:
    bool dies();
    uint32_t some_bits();
    uint8_t &byte(uint32_t address);
    void put(uint32_t address, uint32_t value);

    std::vector<uint8_t> memory;
    std::map<uint32_t, bool> torn; /* by unit */
    uint32_t random = 1;
};

Model *make_model();

#endif
