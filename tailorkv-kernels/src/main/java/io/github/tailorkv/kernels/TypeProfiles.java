package io.github.tailorkv.kernels;

import static io.github.tailorkv.kernels.Lanes.B;
import static io.github.tailorkv.kernels.Lanes.F;
import static io.github.tailorkv.kernels.Lanes.I;
import static io.github.tailorkv.kernels.Lanes.ORDER;
import static io.github.tailorkv.kernels.Lanes.S;
import static io.github.tailorkv.kernels.NativeMemory.ALL;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_B2I;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_S2I;

import java.lang.foreign.Arena;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;

/**
 * Shows the JDK's vector code every kind of vector that the kernels use, before anything is compiled.
 *
 * <p>All loads go through one method of the JDK, and the JVM remembers for it what classes of vectors came out. As long as
 * that was a single class, compiled code relies on it, and is thrown away when another one comes. The compiler adds these
 * failures up, once for every load in the kernel that it compiles, and from a hundred on ({@code PerMethodTrapLimit}) it
 * relies on nothing within that kernel any more: vectors are then objects on the heap for good, and the kernel is a
 * hundred times slower. Whether it came to that used to depend on which kernels were compiled first. A profile that has seen
 * several classes from the beginning is never relied on.
 */
final class TypeProfiles {

    /** Calls until the JVM compiles code that counts and remembers, and enough for it to be heard. */
    private static final int ROUNDS = 500;

    /** Keeps the compiler from dropping what is done for its own sake. */
    @SuppressWarnings("unused")
    private static float result;

    static {
        try (Arena arena = Arena.ofConfined()) {
            long memory = arena.allocate(Lanes.V, Lanes.V).address();
            float sum = 0;
            for (int round = 0; round < ROUNDS; round++) {
                sum += visit(memory);
            }
            result = sum;
        }
    }

    private TypeProfiles() {}

    /** Sees to it that all has been shown, once for the JVM. */
    static void seed() {
        // The static initializer does it.
    }

    private static float visit(long memory) {
        FloatVector floats = FloatVector.fromMemorySegment(F, ALL, memory, ORDER);
        floats.intoMemorySegment(ALL, memory, ORDER);
        IntVector ints = IntVector.fromMemorySegment(I, ALL, memory, ORDER);
        ints.intoMemorySegment(ALL, memory, ORDER);
        ShortVector shorts = ShortVector.fromMemorySegment(S, ALL, memory, ORDER);
        shorts.intoMemorySegment(ALL, memory, ORDER);
        ByteVector bytes = ByteVector.fromMemorySegment(B, ALL, memory, ORDER);
        bytes.intoMemorySegment(ALL, memory, ORDER);
        IntVector fromBytes = (IntVector) bytes.convertShape(ZERO_EXTEND_B2I, I, 0);
        IntVector fromShorts = (IntVector) shorts.convertShape(ZERO_EXTEND_S2I, I, 0);
        return ((FloatVector) fromBytes.add(fromShorts).convert(I2F, 0)).lane(0);
    }
}
