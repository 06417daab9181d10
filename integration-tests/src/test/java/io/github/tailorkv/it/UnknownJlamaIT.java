package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.tailorkv.it.ChildJvm.Ended;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.lang.classfile.ClassTransform;
import java.lang.classfile.CodeTransform;
import java.lang.classfile.FieldModel;
import java.lang.classfile.MethodModel;
import java.lang.classfile.instruction.FieldInstruction;
import java.lang.classfile.instruction.InvokeInstruction;
import java.nio.file.Path;
import java.util.Map;
import java.util.jar.Manifest;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A Jlama that is not the one we know, made by renaming one member of the real one: the application runs on it as if we
 * were not there, and one line says what is missing.
 */
class UnknownJlamaIT {
    private static final String APPLICATION = "com.example.app.QuestionApplication";
    private static final String LOAD_MODEL = "loadModel";
    private static final int LOAD_MODEL_PARAMETERS = 9;

    @TempDir
    private Path folder;

    @ParameterizedTest
    @EnumSource(names = {"AGENT", "AGENT_AND_CLASS_LOADER"})
    void loadsItsModelsOtherwise(Way way) throws Exception {
        Path other = jlamaWith("com/github/tjake/jlama/model/ModelSupport.class",
                UnknownJlamaIT::withOtherLoadModel);
        assertStock(run(way, other), "tailorkv: Jlama stays stock: expected the method "
                + "com.github.tjake.jlama.model.ModelSupport.loadModel(");
    }

    @ParameterizedTest
    @EnumSource(names = {"AGENT", "CLASS_LOADER_JAR_FIRST"})
    void attendsOtherwise(Way way) throws Exception {
        Path other = jlamaWith("com/github/tjake/jlama/model/CausalSelfAttention.class",
                (classFile, attention) -> withOtherField(classFile, attention, "outputProjectionWeights"));
        assertStock(run(way, other), "outputProjectionWeights");
    }

    private Ended run(Way way, Path otherJlama) throws Exception {
        return way.prepare(folder, Jars.application(folder), otherJlama).enabled()
                .run(APPLICATION, ChildJvm.MODEL, ReferenceModel.QUESTION);
    }

    private static void assertStock(Ended ended, String line) {
        ended.successful();
        assertEquals("com.github.tjake.jlama.model.CausalSelfAttention", ended.after("attention: "));
        assertTrue(ended.after("answer: ").contains(ReferenceModel.ANSWER), ended::toString);
        assertEquals(1, ended.errWith(line).size(), ended::toString);
        assertEquals(0, ended.errWith("TailorKV serves").size(), ended::toString);
    }

    private interface Change {
        byte[] apply(ClassFile classFile, ClassModel original);
    }

    private Path jlamaWith(String className, Change change) throws Exception {
        byte[] original = Jars.entries(ChildJvm.library("jlama-core"), className::equals).values().iterator().next();
        ClassFile classFile = ClassFile.of();
        byte[] changed = change.apply(classFile, classFile.parse(original));
        return Jars.write(folder.resolve("other-jlama.jar"), new Manifest(), Map.of(className, changed));
    }

    private static byte[] withOtherLoadModel(ClassFile classFile, ClassModel modelSupport) {
        String other = "loadModelOtherwise";
        CodeTransform calls = (code, element) -> {
            if (element instanceof InvokeInstruction call && call.name().equalsString(LOAD_MODEL)
                    && call.typeSymbol().parameterCount() == LOAD_MODEL_PARAMETERS) {
                code.invoke(call.opcode(), call.owner().asSymbol(), other, call.typeSymbol(), call.isInterface());
            } else {
                code.with(element);
            }
        };
        ClassTransform methods = (builder, element) -> {
            if (element instanceof MethodModel method) {
                boolean renamed = method.methodName().equalsString(LOAD_MODEL)
                        && method.methodTypeSymbol().parameterCount() == LOAD_MODEL_PARAMETERS;
                builder.withMethod(renamed ? other : method.methodName().stringValue(), method.methodTypeSymbol(),
                        method.flags().flagsMask(), copy -> method.forEach(copy::with));
            } else {
                builder.with(element);
            }
        };
        byte[] called = classFile.transformClass(modelSupport, ClassTransform.transformingMethodBodies(calls));
        return classFile.transformClass(classFile.parse(called), methods);
    }

    private static byte[] withOtherField(ClassFile classFile, ClassModel attention, String name) {
        CodeTransform uses = (code, element) -> {
            if (element instanceof FieldInstruction use && use.name().equalsString(name)) {
                code.fieldAccess(use.opcode(), use.owner().asSymbol(), name + "Otherwise", use.typeSymbol());
            } else {
                code.with(element);
            }
        };
        ClassTransform fields = (builder, element) -> {
            if (element instanceof FieldModel field && field.fieldName().equalsString(name)) {
                builder.withField(name + "Otherwise", field.fieldTypeSymbol(), field.flags().flagsMask());
            } else {
                builder.with(element);
            }
        };
        byte[] used = classFile.transformClass(attention, ClassTransform.transformingMethodBodies(uses));
        return classFile.transformClass(classFile.parse(used), fields);
    }
}
