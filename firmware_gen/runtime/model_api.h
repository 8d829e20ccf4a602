/* What a generated model shows to the firmware.
 *
 * `ft_model` in the generated model.c is the only object that the firmware library needs. Tensors lie in RAM
 * that the model owns; two of them may share bytes when their lifetimes never meet. Values are little endian,
 * activations HWC. The host's copy of the two enumerations is in firmware_gen/protocol.py.
 */
#ifndef FT_MODEL_API_H
#define FT_MODEL_API_H

#include <stdint.h>

typedef enum {
    FT_INPUT,    /* written by the host before infer() or step() */
    FT_LABEL,    /* what the output should be, written before step() */
    FT_MASK,     /* which label values count, written before step() */
    FT_OUTPUT,   /* valid after infer(); step() reuses the bytes */
    FT_WEIGHT,   /* a parameter that learns */
    FT_STATE,    /* what an optimizer keeps from one update to the next */
    FT_GRADIENT, /* valid after step() */
    FT_ARENA,    /* what the steps compute in, for who knows the plan's offsets; shape 0, 0, 0 */
    FT_RANGE,    /* lowest and highest value of int8 tensors, which move while the network learns */
    FT_LATENT,   /* made in the first parts of step(); written by the host when these are left out */
    FT_FIELD,    /* the sample buffer, and what came of the rounds that learned from it */
    FT_GRID      /* scale or zero point of an int8 output, after infer(): value = scale * (q - zero point) */
} ft_role_t;

typedef enum {
    FT_F32,
    FT_U8,
    FT_I8,
    FT_I32,
    FT_BITS, /* eight values a byte, the first in bit 0 */
    FT_BF16, /* the upper half of a float */
    FT_I16
} ft_dtype_t;

typedef struct {
    const char *name;
    uint8_t *data;  /* aligned for the dtype */
    uint32_t bytes; /* size of data */
    uint16_t shape[3];
    uint8_t role;  /* ft_role_t */
    uint8_t dtype; /* ft_dtype_t */
} ft_tensor_t;

typedef struct {
    float lr, momentum, weight_decay;
    float clip_norm;         /* 0: gradients are not clipped */
    float beta1, beta2, eps; /* of Adam: 0 <= beta < 1 */
    uint32_t accumulate;     /* samples an update, at least 1 */
} ft_hyper_t;

typedef struct ft_field ft_field_t; /* field/field.h */

typedef struct {
    const char *name;
    uint32_t model_hash, plan_hash;
    const ft_tensor_t *tensors;
    uint16_t tensor_count, loss_count;
    uint32_t step_parts; /* what step() consists of; 0 when nothing learns */
    void (*reset)(void); /* initial weights, zero optimizer state */
    /* Inputs -> outputs: the forward steps from `first` to before `end`, as far as there are such. Between
     * two calls that follow each other in the steps nothing but READ may touch the model. */
    void (*infer)(uint32_t first, uint32_t end);
    /* One sample: the parts from `first` to before `end`, as far as there are such. All of them in their
     * order are a training step; until the last has run, losses[loss_count] must stay as it was left, and
     * nothing but READ may touch the model. NULL when nothing learns. */
    void (*step)(uint32_t first, uint32_t end, const ft_hyper_t *hyper, float *losses);
    int (*intact)(void);     /* 0 when something wrote outside the arena */
    const ft_field_t *field; /* NULL: there is no sample buffer */
} ft_model_t;

extern const ft_model_t ft_model; /* defined in the generated model.c */

#endif
