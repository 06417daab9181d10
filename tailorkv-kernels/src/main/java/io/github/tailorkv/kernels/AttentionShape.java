package io.github.tailorkv.kernels;

/**
 * The geometry of attention in one layer, as far as this process computes it.
 *
 * @param heads query heads
 * @param kvHeads KV heads; divides {@code heads}
 * @param headSize channels of one head; a multiple of 16
 * @param scale factor applied to every score, usually {@code 1 / sqrt(headSize)}
 * @param softCap scores s become {@code softCap * tanh(s / softCap)} after scaling; 0 for none
 */
public record AttentionShape(int heads, int kvHeads, int headSize, float scale, float softCap) {

    public AttentionShape {
        if (kvHeads < 1 || heads < kvHeads || heads % kvHeads != 0) {
            throw new IllegalArgumentException(heads + " query heads cannot share " + kvHeads + " KV heads");
        }
        if (headSize < 2) {
            throw new IllegalArgumentException("head size " + headSize + " is too small");
        }
    }

    /** Query heads that share one KV head. */
    public int groupSize() {
        return heads / kvHeads;
    }
}
