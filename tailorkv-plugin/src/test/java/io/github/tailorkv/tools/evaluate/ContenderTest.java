package io.github.tailorkv.tools.evaluate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.config.SettingsException;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What {@code --policy} takes, and which policies read a prompt alike. */
class ContenderTest {
    private static Optional<String> reading(String argument) {
        return Contender.parse(argument).readsAs("panama");
    }

    @Test
    void policiesThatPartWhenDecodingStartsShareAReading() {
        Optional<String> balanced = reading("balanced");
        assertTrue(balanced.isPresent());
        assertNotEquals(balanced, reading("compact"), "fewer tokens stay exact");
        assertEquals(balanced, reading("quantize4"));
        assertEquals(balanced, reading("retrieve"));
        assertEquals(balanced, reading("narrow=balanced,budget=64,bits=8,rows=int4"));
        assertNotEquals(balanced, Contender.parse("balanced").readsAs("cuda"));
        assertNotEquals(balanced, reading("wide=balanced,recent=128"), "more tokens stay exact");
    }

    @Test
    void rowsOfSixteenBitsTakeOverTheExactReading() {
        assertTrue(Contender.parse("paper2").readsAsExact());
        assertTrue(Contender.parse("rows=balanced,rows=bf16").readsAsExact());
        assertFalse(Contender.parse("balanced").readsAsExact());
    }

    @ParameterizedTest
    @ValueSource(strings = {"streaming", "snapkv", "mixed=balanced,policy=0:exact,1-9:retrieve"})
    void otherCachesReadForThemselves(String argument) {
        assertEquals(Optional.empty(), reading(argument));
    }

    @ParameterizedTest
    @ValueSource(strings = {"exact=balanced", "no name=balanced", "unheard-of", "x=balanced,budgte=3", "x=lossless"})
    void nonsenseIsRefused(String argument) {
        String message = String.valueOf(
                assertThrows(SettingsException.class, () -> Contender.parse(argument)).getMessage());
        assertTrue(message.startsWith("--policy " + argument.substring(0, argument.length() / 2)), message);
    }
}
