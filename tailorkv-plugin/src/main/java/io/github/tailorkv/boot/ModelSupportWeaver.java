package io.github.tailorkv.boot;

import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassHierarchyResolver;
import java.lang.classfile.ClassModel;
import java.lang.classfile.ClassTransform;
import java.lang.classfile.CodeTransform;
import java.lang.classfile.MethodModel;
import java.lang.classfile.Opcode;
import java.lang.classfile.instruction.InvokeInstruction;
import java.lang.classfile.instruction.ReturnInstruction;
import java.lang.constant.ClassDesc;
import java.lang.constant.ConstantDescs;
import java.lang.constant.MethodTypeDesc;
import org.jspecify.annotations.Nullable;

/**
 * Weaves the one call into Jlama: every way to load a model ends in the nine-argument {@code ModelSupport.loadModel},
 * and before each of its returns the finished model is handed to {@link LoadHook#loaded}. Weaving twice is harmless, so
 * the agent and the class loader need not know of each other.
 *
 * <p>Whatever is not as in the Jlama that we know leaves the class as it was, with one line that says why. Classes that
 * the new stack maps mention are read as resources of the loader that is about to define Jlama; loading them would be
 * too early, and the JVM's own default would look into the wrong loader.
 */
final class ModelSupportWeaver {
    static final String CLASS = "com.github.tjake.jlama.model.ModelSupport";

    private static final String METHOD = "loadModel";
    private static final MethodTypeDesc TYPE = MethodTypeDesc
            .ofDescriptor("(Lcom/github/tjake/jlama/model/AbstractModel$InferenceType;"
                    + "Ljava/io/File;Ljava/io/File;Lcom/github/tjake/jlama/safetensors/DType;"
                    + "Lcom/github/tjake/jlama/safetensors/DType;"
                    + "Ljava/util/Optional;Ljava/util/Optional;Ljava/util/Optional;Ljava/util/function/Function;)"
                    + "Lcom/github/tjake/jlama/model/AbstractModel;");

    private static final ClassDesc HOOK = ClassDesc.of(LoadHook.class.getName());
    private static final String HOOK_METHOD = "loaded";
    private static final MethodTypeDesc HOOK_TYPE = MethodTypeDesc.of(
            ConstantDescs.CD_void, ConstantDescs.CD_Object, ClassDesc.of("java.io.File"));

    /** Local variable of {@code loadModel} that holds the model's folder: its second parameter, which it never changes. */
    private static final int FOLDER = 1;

    private ModelSupportWeaver() {}

    /** The woven class, or null if it is to stay as it is; {@code definer} is the loader that defines it. */
    static byte @Nullable [] weave(byte[] original, @Nullable ClassLoader definer) {
        try {
            if (definer == null || !seesHook(definer)) {
                return standAside("its class loader (" + definer + ") does not find the " + LoadHook.class.getName()
                        + " that this JVM started with");
            }
            ClassFile classFile = ClassFile.of(ClassFile.ClassHierarchyResolverOption.of(ClassHierarchyResolver
                    .ofResourceParsing(definer)
                    .orElse(ClassHierarchyResolver.ofResourceParsing(ClassLoader.getPlatformClassLoader()))
                    .cached()));
            ClassModel modelSupport = classFile.parse(original);
            MethodModel loadModel = modelSupport.methods().stream()
                    .filter(ModelSupportWeaver::isLoadModel)
                    .findFirst()
                    .orElse(null);
            if (loadModel == null) {
                return standAside("expected the method " + CLASS + "." + METHOD + TYPE.displayDescriptor()
                        + " of Jlama 0.8, which this one lacks");
            }
            if (isWoven(loadModel)) {
                return null;
            }
            byte[] woven = classFile.transformClass(modelSupport,
                    ClassTransform.transformingMethodBodies(ModelSupportWeaver::isLoadModel, beforeEachReturn()));
            return classFile.verify(woven).isEmpty() ? woven : standAside("it does not verify with the call woven in");
        } catch (Throwable e) {
            return standAside("the call could not be woven in (" + e + ")");
        }
    }

    private static boolean seesHook(ClassLoader definer) {
        try {
            return Class.forName(LoadHook.class.getName(), false, definer) == LoadHook.class;
        } catch (ClassNotFoundException | LinkageError e) {
            return false;
        }
    }

    private static boolean isLoadModel(MethodModel method) {
        return method.methodName().equalsString(METHOD) && method.methodTypeSymbol().equals(TYPE);
    }

    private static boolean isWoven(MethodModel loadModel) {
        return loadModel.code().stream()
                .flatMap(code -> code.elementStream())
                .anyMatch(element -> element instanceof InvokeInstruction call && call.owner().asSymbol().equals(HOOK));
    }

    private static CodeTransform beforeEachReturn() {
        return (code, element) -> {
            if (element instanceof ReturnInstruction end && end.opcode() == Opcode.ARETURN) {
                code.dup().aload(FOLDER).invokestatic(HOOK, HOOK_METHOD, HOOK_TYPE);
            }
            code.with(element);
        };
    }

    private static byte @Nullable [] standAside(String reason) {
        Activation.say("Jlama stays stock: " + reason);
        return null;
    }
}
