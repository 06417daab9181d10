package io.github.tailorkv.tools.evaluate;

/** Arithmetic on the logits of a next token. */
public final class Logits {
    private Logits() {}

    /** The most probable token; the first of several. */
    public static int greatest(float[] logits) {
        int best = 0;
        for (int i = 1; i < logits.length; i++) {
            if (logits[i] > logits[best]) {
                best = i;
            }
        }
        return best;
    }

    /** Logarithms of the probabilities, by a softmax in double precision. */
    public static double[] logProbabilities(float[] logits) {
        double largest = logits[greatest(logits)];
        double sum = 0;
        for (float logit : logits) {
            sum += Math.exp(logit - largest);
        }
        double logSum = largest + Math.log(sum);
        double[] result = new double[logits.length];
        for (int i = 0; i < logits.length; i++) {
            result[i] = logits[i] - logSum;
        }
        return result;
    }

    /**
     * The Kullback-Leibler divergence of one distribution from another, in nats: what is lost when {@code other} stands in
     * for {@code truth}. Not below 0, whatever rounding does.
     */
    public static double divergence(double[] truth, double[] other) {
        double sum = 0;
        for (int i = 0; i < truth.length; i++) {
            double p = Math.exp(truth[i]);
            if (p > 0) {
                sum += p * (truth[i] - other[i]);
            }
        }
        return Math.max(0, sum);
    }
}
