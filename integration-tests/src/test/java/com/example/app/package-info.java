/** Applications of Jlama as their authors would write them: not one word of TailorKV. Tests run them in JVMs of their own. */
package com.example.app;
