// All kernels in one module, so that the host loads one image.
#include "quantize.cu"
#include "prefill.cu"
#include "warpgroups.cu"
#include "preference.cu"
#include "decode.cu"
