package io.github.tailorkv.tools.evaluate;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class LogitsTest {

    @Test
    void probabilitiesAreThoseOfASoftmax() {
        double[] logs = Logits.logProbabilities(new float[] {100, 100 + (float) Math.log(3)});
        assertEquals(0.25, Math.exp(logs[0]), 1e-5);
        assertEquals(0.75, Math.exp(logs[1]), 1e-5);
    }

    @Test
    void divergenceOfTwoCoins() {
        double[] fair = {Math.log(0.5), Math.log(0.5)};
        double[] biased = {Math.log(0.9), Math.log(0.1)};
        assertEquals(0.5 * Math.log(0.5 / 0.9) + 0.5 * Math.log(0.5 / 0.1), Logits.divergence(fair, biased), 1e-12);
        assertEquals(0.9 * Math.log(0.9 / 0.5) + 0.1 * Math.log(0.1 / 0.5), Logits.divergence(biased, fair), 1e-12);
        assertEquals(0, Logits.divergence(fair, fair));
    }

    @Test
    void whatIsImpossibleInTruthCostsNothing() {
        double[] truth = Logits.logProbabilities(new float[] {0, Float.NEGATIVE_INFINITY});
        double[] other = Logits.logProbabilities(new float[] {0, 0});
        assertEquals(Math.log(2), Logits.divergence(truth, other), 1e-12);
    }

    @Test
    void theFirstOfSeveralGreatestIsTaken() {
        assertEquals(1, Logits.greatest(new float[] {-2, 5, 5, 1}));
    }
}
