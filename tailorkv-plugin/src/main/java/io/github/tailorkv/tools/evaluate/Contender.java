package io.github.tailorkv.tools.evaluate;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import java.util.regex.Pattern;

/**
 * A cache to be judged.
 *
 * @param name in tables and results
 * @param text a preset and properties over it, such as {@code balanced,budget=64,offload=disk}; what the user wrote
 * @param settings what the text means
 */
public record Contender(String name, String text, Settings settings) {

    private static final Pattern NAME = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._@-]{0,31}");

    /** Only before a property: a list of layers has commas of its own. */
    private static final Pattern COMMA = Pattern.compile(",(?=[a-z.]+=)");

    /** The one that all others are compared with. */
    public static final Contender EXACT = of("exact", "exact");

    /** What {@link #readsAs} calls the reading of {@link #EXACT}. */
    static final String EXACT_READING = "exact";

    /** What is compared where the user names nothing; the last three are rivals, two of them with 1024 tokens. */
    public static final List<Contender> DEFAULTS = List.of(
            of("quantize4", "balanced,policy=quantize,bits=4"), of("retrieve", "balanced,policy=retrieve"),
            of("paper1", "paper,policy=online,bits=1"), of("paper2", "paper,policy=online,bits=2"),
            of("balanced", "balanced"), of("compact", "compact"),
            of("kivi2", "balanced,policy=quantize,bits=2,residual=128"),
            of("streaming", "balanced,provider=streaming,sinks=4,recent=1020"),
            of("snapkv", "balanced,provider=snapkv,budget=992"));

    /**
     * The family of contenders that this one belongs to: its name up to {@code @}. Those that differ by one setting, such
     * as {@code ours@128} and {@code ours@256}, are points of one curve.
     */
    public static String series(String name) {
        int at = name.indexOf('@');
        return at < 0 ? name : name.substring(0, at);
    }

    /**
     * Reads {@code NAME=SETTINGS}, or the name of a default.
     *
     * @throws SettingsException if it is neither, or a setting is not allowed
     */
    public static Contender parse(String argument) {
        int equals = argument.indexOf('=');
        if (equals < 0) {
            for (Contender contender : DEFAULTS) {
                if (contender.name.equals(argument)) {
                    return contender;
                }
            }
            throw new SettingsException(
                    "--policy " + argument + " is not of the form NAME=SETTINGS; by name alone there "
                            + "are " + String.join(", ", DEFAULTS.stream().map(Contender::name).toList()));
        }
        String name = argument.substring(0, equals);
        if (!NAME.matcher(name).matches() || name.equals(EXACT.name)) {
            throw new SettingsException(
                    "--policy " + argument + ": \"" + name + "\" is no name for a policy; it takes up "
                            + "to 32 letters, digits, dots, dashes and @, and is not \"exact\"");
        }
        return of(name, argument.substring(equals + 1));
    }

    private static Contender of(String name, String text) {
        Properties properties = new Properties();
        for (String part : COMMA.split(text, -1)) {
            int equals = part.indexOf('=');
            String key = equals < 0 ? "preset" : part.substring(0, equals).strip();
            properties.setProperty("tailorkv." + key, part.substring(equals + 1).strip());
        }
        try {
            return new Contender(name, text, Settings.from(properties));
        } catch (SettingsException e) {
            throw new SettingsException("--policy " + name + "=" + text + ": " + e.getMessage());
        }
    }

    /**
     * How this cache reads a prompt: those that say the same hold and attend the same until decoding starts, when their kinds
     * of layers part them, so one may take over what another has read. Empty for a cache that shares with nobody.
     */
    Optional<String> readsAs(String backend) {
        if (!shares()) {
            return Optional.empty();
        }
        return Optional.of(
                readsAsExact() ? EXACT_READING : backend + " " + Math.max(settings.recent(), settings.residual()));
    }

    /** Whether this cache takes over what {@link #EXACT} has read: rows of 16 bits read alike but for the rounding to BF16. */
    boolean readsAsExact() {
        return shares() && settings.rows() == Settings.Rows.BF16;
    }

    private boolean shares() {
        return settings.provider().equals("hybrid")
                && !settings.policy().toString().contains(LayerKind.EXACT.label());
    }
}
