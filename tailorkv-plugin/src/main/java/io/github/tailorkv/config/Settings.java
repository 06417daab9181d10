package io.github.tailorkv.config;

import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/**
 * Everything that a user can set, read once from the system properties {@code tailorkv.*}. A preset gives the defaults
 * of the method's own parameters; where a property is set, its value counts. {@link #PROPERTIES} lists them all.
 *
 * @param enabled whether models are served at all; without it the agent and the class loader touch nothing
 * @param provider name of the {@link io.github.tailorkv.spi.KvCacheProvider}
 * @param preset name of the preset the defaults came from
 * @param policy who decides the kind of each layer
 * @param profile profile file to use instead of the one beside the model
 * @param bits precision of quantized layers: 1, 2, 4 or 8
 * @param budget most dominant tokens that a retrieval layer attends exactly, per KV head
 * @param leastBudget fewest of them: how many they are grows with the context, see {@link #budgetAt}
 * @param sinks first tokens that retrieval layers always attend exactly
 * @param recent newest tokens that stay exact in retrieval layers
 * @param residual newest tokens that stay exact in quantized layers
 * @param channels critical channels that the approximate scores of retrieval layers use
 * @param indexBits precision of the resident channel index: 2, 4 or 8
 * @param indexShare share of the key channels that the index holds, see {@link #indexedChannels}
 * @param rows precision of offloaded keys and values
 * @param selection how the scores of a head group become one ranking of tokens
 * @param tail whether tokens that are not dominant take part too, in the index's precision
 * @param offload where offloaded rows live
 * @param offloadDir folder of the offload files
 * @param backend where the attention runs
 * @param gpuMemory GPU memory that one model may use, in bytes; 0 for nine tenths of what is free
 * @param threshold dense preference above which a layer is quantized (tau); no effect where a profile decides
 * @param keep fraction of the tokens that the dense preference counts as dominant (alpha)
 * @param queries newest queries that the dense preference, and the choice of channels for an index, look at
 * @param idleSessions sessions kept between turns
 * @param idleBytes memory that sessions kept between turns may hold, in bytes
 * @param sample every so many decode steps one is measured; 0 for none
 * @param report file for the JSON report
 */
public record Settings(
        boolean enabled,
        String provider,
        String preset,
        Policy policy,
        Optional<Path> profile,
        int bits,
        int budget,
        int leastBudget,
        int sinks,
        int recent,
        int residual,
        int channels,
        int indexBits,
        double indexShare,
        Rows rows,
        Selection selection,
        boolean tail,
        Offload offload,
        Path offloadDir,
        Backend backend,
        long gpuMemory,
        double threshold,
        double keep,
        int queries,
        int idleSessions,
        long idleBytes,
        int sample,
        Optional<Path> report) {

    /** The rarest sampling that can be asked for. */
    public static final int RAREST_SAMPLE = 1_000_000;

    /** The budget unless it is set; it is allowed for every model, however short its context. */
    public static final int DEFAULT_BUDGET = 768;

    private static final int DEFAULT_LEAST_BUDGET = 384;

    /** Precision of offloaded keys and values. */
    public enum Rows {
        /** 16-bit brain floats. */
        BF16(16),
        /** Codes of 8 bits. */
        INT8(8),
        /** Codes of 4 bits. */
        INT4(4);

        private final int bits;

        Rows(int bits) {
            this.bits = bits;
        }

        /** Bits of a number. */
        public int bits() {
            return bits;
        }
    }

    /** How the scores of the query heads that share a KV head become one ranking. */
    public enum Selection {
        /** Softmax per query head, then the largest of the group: no head's favourite is outvoted. */
        PER_HEAD,
        /** One score from the averaged query, as published. */
        AVERAGED
    }

    /** Where offloaded rows live. */
    public enum Offload {
        /** In RAM. */
        RAM,
        /** In a file that has no name once it is open. */
        DISK
    }

    /** Where the attention runs. */
    public enum Backend {
        /** The best that works. */
        AUTO,
        /** NVIDIA GPU. */
        CUDA,
        /** Vector API. */
        PANAMA,
        /** Plain Java. */
        SCALAR
    }

    /** Every property with what it takes and, in brackets, its default, as error messages and the README say it. */
    public static final Map<String, String> PROPERTIES = properties();

    private static Map<String, String> properties() {
        Map<String, String> all = new TreeMap<>();
        all.put("tailorkv.enabled", "true or false (false)");
        all.put("tailorkv.provider", "name of a registered KvCacheProvider (hybrid)");
        all.put("tailorkv.preset", "balanced, compact, paper or exact (balanced)");
        all.put("tailorkv.policy", Policy.ALLOWED);
        all.put("tailorkv.profile", "file to use instead of tailorkv.json beside the model");
        all.put("tailorkv.bits", "1, 2, 4 or 8");
        all.put("tailorkv.budget", "a whole number from 1 to 1048576; above 768 at most the model's context");
        all.put("tailorkv.budget.least", "a whole number from 1 to tailorkv.budget");
        all.put("tailorkv.sinks", "a whole number from 0 to 64");
        all.put("tailorkv.recent", "a whole number from 1 to 65536");
        all.put("tailorkv.residual", "a whole number from 1 to 65536");
        all.put("tailorkv.channels", "a whole number from 1 to 1024");
        all.put("tailorkv.index", "2, 4 or 8; with tailorkv.tail=true only 4, unless tailorkv.rows=bf16");
        all.put("tailorkv.index.share", "a number above 0 and up to 1");
        all.put("tailorkv.rows", "bf16, int8 or int4");
        all.put("tailorkv.selection", "per-head or averaged");
        all.put("tailorkv.tail", "true or false");
        all.put("tailorkv.offload", "ram or disk");
        all.put("tailorkv.offload.dir", "a folder that can be written (the temp folder)");
        all.put("tailorkv.backend", "auto, cuda, panama or scalar (auto)");
        all.put("tailorkv.gpu.memory", "bytes, with k, m, g or t for powers of 1024 (0: nine tenths of what is free)");
        all.put("tailorkv.threshold", "a number from 0 to 1");
        all.put("tailorkv.keep", "a number above 0 and up to 1 (0.05)");
        all.put("tailorkv.queries", "a whole number from 1 to 256 (32)");
        all.put("tailorkv.idle.sessions", "a whole number from 0 to 1000000 (32)");
        all.put("tailorkv.idle.memory",
                "bytes, with k, m, g or t for powers of 1024 (a quarter of the machine's memory)");
        all.put("tailorkv.sample", "a whole number from 0 to 1000000 (0)");
        all.put("tailorkv.report", "a file that can be written");
        return java.util.Collections.unmodifiableMap(all);
    }

    /**
     * How many channels of a head the index of a retrieval layer holds: the share that is set, but no fewer than the scores
     * use; with a tail all of them, for its scores use all.
     */
    public int indexedChannels(int headSize) {
        int share = (int) Math.ceil(indexShare * headSize);
        return tail ? headSize : Math.min(headSize, Math.max(channels, share));
    }

    /**
     * How many dominant tokens a retrieval layer attends: an eighth of the tokens to choose from, at least
     * {@link #leastBudget()} and at most {@link #budget()}. A large budget is needed where many tokens count at once, as in long
     * lists of words to be counted, and short contexts have no such lists.
     *
     * @param tokens how many there are to choose from
     */
    public int budgetAt(int tokens) {
        return Math.min(budget, Math.max(leastBudget, tokens / 8));
    }

    /**
     * How many tokens a session must hold before the dense preference of its prompt decides the kind of a layer. With fewer the
     * tokens that stay exact at any rate are a large share of all: the dense preference says nothing, and there is nothing to
     * gain.
     */
    public int leastTokensToJudge() {
        return Math.max(1024, leastTokensToChoose());
    }

    /**
     * How many tokens a session must hold before channels are chosen for the index of a layer, twice as many as retrieval
     * attends exactly at most: a few keys do not show what a channel does, and with fewer tokens there is little to leave out.
     */
    public int leastTokensToChoose() {
        return 2 * (sinks + recent + budget);
    }

    /**
     * Reads the system properties.
     *
     * @throws SettingsException if a property is unknown or its value not allowed
     */
    public static Settings fromSystemProperties() {
        return from(System.getProperties());
    }

    /**
     * Reads settings from properties, of which all that do not start with {@code tailorkv.} are ignored.
     *
     * @throws SettingsException if a property is unknown or its value not allowed
     */
    public static Settings from(Properties properties) {
        return new SettingsReader(properties).read();
    }

    /** Settings of a preset with nothing overridden, enabled. */
    public static Settings preset(String name) {
        Properties properties = new Properties();
        properties.setProperty("tailorkv.enabled", "true");
        properties.setProperty("tailorkv.preset", name);
        return from(properties);
    }

    /** Parses the properties one by one; every complaint names the property, the value and what is allowed. */
    private static final class SettingsReader {

        private final Properties properties;

        SettingsReader(Properties properties) {
            this.properties = properties;
        }

        Settings read() {
            for (String name : properties.stringPropertyNames()) {
                if (name.startsWith("tailorkv.") && !PROPERTIES.containsKey(name)) {
                    throw new SettingsException(
                            "unknown property " + name + "; known are " + String.join(", ", PROPERTIES.keySet()));
                }
            }
            String preset = oneOf("tailorkv.preset", "balanced", "balanced", "compact", "paper", "exact");
            boolean paper = preset.equals("paper");
            boolean compact = preset.equals("compact");
            int budget = whole("tailorkv.budget", paper ? 128 : DEFAULT_BUDGET, 1, 1 << 20);
            boolean grows = preset.equals("balanced") && value("tailorkv.budget") == null;
            Settings settings = new Settings(
                    flag("tailorkv.enabled", false),
                    text("tailorkv.provider", "hybrid"),
                    preset,
                    policy(preset.equals("exact") ? "exact" : "auto"),
                    path("tailorkv.profile"),
                    bits(paper ? "1" : "4"),
                    budget,
                    whole("tailorkv.budget.least", grows ? DEFAULT_LEAST_BUDGET : budget, 1, budget),
                    whole("tailorkv.sinks", 8, 0, 64),
                    whole("tailorkv.recent", paper ? 56 : compact ? 16 : 64, 1, 1 << 16),
                    whole("tailorkv.residual", paper ? 128 : compact ? 16 : 64, 1, 1 << 16),
                    whole("tailorkv.channels", paper ? 8 : 16, 1, 1024),
                    index(paper ? "8" : "4"),
                    number("tailorkv.index.share", paper ? 1 : 0.5, Double.MIN_VALUE, 1),
                    Rows.valueOf(upper(oneOf("tailorkv.rows", paper ? "bf16" : "int8", "bf16", "int8", "int4"))),
                    Selection.valueOf(upper(
                            oneOf("tailorkv.selection", paper ? "averaged" : "per-head", "per-head", "averaged"))),
                    flag("tailorkv.tail", false),
                    Offload.valueOf(upper(oneOf("tailorkv.offload", compact ? "disk" : "ram", "ram", "disk"))),
                    path("tailorkv.offload.dir").orElseGet(() -> Path.of(System.getProperty("java.io.tmpdir"))),
                    Backend.valueOf(upper(oneOf("tailorkv.backend", "auto", "auto", "cuda", "panama", "scalar"))),
                    bytes("tailorkv.gpu.memory", 0),
                    number("tailorkv.threshold", compact ? 0.45 : 0.2, 0, 1),
                    number("tailorkv.keep", 0.05, Double.MIN_VALUE, 1),
                    whole("tailorkv.queries", 32, 1, 256),
                    whole("tailorkv.idle.sessions", 32, 0, 1_000_000),
                    bytes("tailorkv.idle.memory", quarterOfMemory()),
                    whole("tailorkv.sample", 0, 0, RAREST_SAMPLE),
                    path("tailorkv.report"));
            if (settings.tail() && settings.indexBits() != 4 && settings.rows() != Rows.BF16) {
                throw new SettingsException("tailorkv.tail=true with tailorkv.rows="
                        + settings.rows().name().toLowerCase(Locale.ROOT)
                        + " needs tailorkv.index=4: the index is then the upper 4 bits of the keys");
            }
            return settings;
        }

        private @Nullable String value(String name) {
            String value = properties.getProperty(name);
            return value == null ? null : value.strip();
        }

        private SettingsException bad(String name) {
            return new SettingsException(
                    name + "=" + properties.getProperty(name) + " is not allowed; it takes " + PROPERTIES.get(name));
        }

        private String text(String name, String otherwise) {
            String value = value(name);
            if (value == null) {
                return otherwise;
            }
            if (value.isEmpty()) {
                throw bad(name);
            }
            return value;
        }

        private String oneOf(String name, String otherwise, String... allowed) {
            String value = text(name, otherwise);
            for (String word : allowed) {
                if (word.equals(value)) {
                    return value;
                }
            }
            throw bad(name);
        }

        private boolean flag(String name, boolean otherwise) {
            return Boolean.parseBoolean(oneOf(name, Boolean.toString(otherwise), "true", "false"));
        }

        private int whole(String name, int otherwise, int least, int most) {
            try {
                int value = Integer.parseInt(text(name, Integer.toString(otherwise)));
                if (value >= least && value <= most) {
                    return value;
                }
            } catch (NumberFormatException e) {
                // the same complaint as for a number out of range
            }
            throw bad(name);
        }

        private double number(String name, double otherwise, double least, double most) {
            try {
                double value = Double.parseDouble(text(name, Double.toString(otherwise)));
                if (value >= least && value <= most) {
                    return value;
                }
            } catch (NumberFormatException e) {
                // the same complaint as for a number out of range
            }
            throw bad(name);
        }

        private long bytes(String name, long otherwise) {
            String value = value(name);
            if (value == null) {
                return otherwise;
            }
            int unit = value.isEmpty() ? -1 : "kmgt".indexOf(Character.toLowerCase(value.charAt(value.length() - 1)));
            try {
                long count = Long.parseLong(unit < 0 ? value : value.substring(0, value.length() - 1));
                long factor = 1L << (10 * (unit + 1));
                if (count >= 0) {
                    return Math.multiplyExact(count, factor);
                }
            } catch (NumberFormatException e) {
                // the same complaint as for a negative number
            } catch (ArithmeticException e) {
                return Long.MAX_VALUE;
            }
            throw bad(name);
        }

        private int bits(String otherwise) {
            return Integer.parseInt(oneOf("tailorkv.bits", otherwise, "1", "2", "4", "8"));
        }

        private int index(String otherwise) {
            return Integer.parseInt(oneOf("tailorkv.index", otherwise, "2", "4", "8"));
        }

        private Optional<Path> path(String name) {
            String value = value(name);
            if (value == null) {
                return Optional.empty();
            }
            if (value.isEmpty()) {
                throw bad(name);
            }
            try {
                return Optional.of(Path.of(value));
            } catch (java.nio.file.InvalidPathException e) {
                throw bad(name);
            }
        }

        private Policy policy(String otherwise) {
            return Policy.parse(text("tailorkv.policy", otherwise));
        }

        private static String upper(String word) {
            return word.toUpperCase(Locale.ROOT).replace('-', '_');
        }

        private static long quarterOfMemory() {
            return java.lang.management.ManagementFactory
                    .getOperatingSystemMXBean() instanceof com.sun.management.OperatingSystemMXBean system
                            ? system.getTotalMemorySize() / 4
                            : Runtime.getRuntime().maxMemory();
        }
    }
}
