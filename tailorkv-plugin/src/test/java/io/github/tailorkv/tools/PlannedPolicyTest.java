package io.github.tailorkv.tools;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class PlannedPolicyTest {

    @ParameterizedTest
    @EnumSource
    void layersAreTimedWithTheBudgetOfLongContexts(PlannedPolicy policy) {
        Settings timed = policy.settings(LayerKind.RETRIEVAL);
        assertEquals(policy.settings().budgetAt(1 << 20), timed.budgetAt(1 << 20));
        assertEquals(timed.budgetAt(1 << 20), timed.budgetAt(0));
    }
}
