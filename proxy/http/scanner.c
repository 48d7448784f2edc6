/* Finds the lines of a plain block of fields that mean something to this proxy.

   scan(block, passing, most, largest) -> [start, end, start, end, ...] or None

   `block` is b"\r\nName: value\r\nName: value" (fields.py). It is plain if it has at most `most` lines of at most
   `largest` bytes, and each is

       CR LF field-name ":" field-value        RFC 9112 section 5, RFC 9110 sections 5.1 and 5.5

   without white space before the colon or at the end, and without folding. llhttp accepts every plain block, but for
   values of the fields that it acts on: these are for the caller (lines.py). Any other block: None, and llhttp decides.

   `passing` holds names whose fields pass unread, as they are spelled, each at its `place`. All other lines are
   returned, as the offsets of the name and of the end of the value. So a name that is missing there costs time only.

   No state, no pointer beyond the block, no Python code called in between; borrowed references end with each line. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

enum { SLOTS = 1024 }; /* of `passing`: a few hundred names are sent, which then seldom share a place */

/* RFC 9110 section 5.6.2: tchar */
static const unsigned char TCHAR[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1,
    ['-'] = 1, ['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1, ['~'] = 1,
    ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

/* RFC 9110 section 5.5: field-vchar (VCHAR, obs-text), SP and HTAB; so neither CR, LF, NUL nor DEL */
static const unsigned char VALUE[256] = {
    ['\t'] = 1, [' ' ... '~'] = 1, [0x80 ... 0xff] = 1,
};

static const unsigned char *skip(const unsigned char *at, const unsigned char *end, const unsigned char class[256])
{
    while (at < end && class[*at])
        at++;
    return at;
}

/* Where in `passing` a name is. It has at least one byte. Names that differ only elsewhere are rare. */
static size_t place_of(const unsigned char *name, size_t size)
{
    return (97 * name[0] + 331 * name[size / 2] + 57 * name[size * 3 / 4] + 13 * size) % SLOTS;
}

static int passes(PyObject *passing, const unsigned char *name, size_t size)
{
    PyObject *known = PyList_GET_ITEM(passing, place_of(name, size));
    return PyBytes_CheckExact(known) && (size_t)PyBytes_GET_SIZE(known) == size &&
           memcmp(PyBytes_AS_STRING(known), name, size) == 0;
}

/* -1 with an exception set, else 0 */
static int append(PyObject *list, Py_ssize_t number)
{
    PyObject *item = PyLong_FromSsize_t(number);
    int failed = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return failed;
}

enum verdict { PLAIN, OTHER, FAILED };

static enum verdict find(const unsigned char *block, const unsigned char *end, PyObject *passing, Py_ssize_t most,
                         Py_ssize_t largest, PyObject *found)
{
    for (const unsigned char *at = block; at < end;) {
        if (most-- <= 0 || end - at < 2 || at[0] != '\r' || at[1] != '\n')
            return OTHER;
        const unsigned char *name = at + 2, *colon = skip(name, end, TCHAR);
        if (colon == name || colon == end || *colon != ':')
            return OTHER;
        at = skip(colon + 1, end, VALUE);
        if (at - name > largest || at[-1] == ' ' || at[-1] == '\t') /* at[-1] is the colon or behind it */
            return OTHER;
        if (passes(passing, name, (size_t)(colon - name)))
            continue;
        if (append(found, name - block) < 0 || append(found, at - block) < 0)
            return FAILED;
    }
    return PLAIN;
}

static PyObject *scan(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyBytes_CheckExact(args[0]) || !PyList_CheckExact(args[1]) ||
        PyList_GET_SIZE(args[1]) != SLOTS || !PyLong_CheckExact(args[2]) || !PyLong_CheckExact(args[3])) {
        PyErr_SetString(PyExc_TypeError, "expected bytes, a list of SLOTS, and two numbers");
        return NULL;
    }
    Py_ssize_t most = PyLong_AsSsize_t(args[2]), largest = PyLong_AsSsize_t(args[3]);
    if (PyErr_Occurred())
        return NULL;
    PyObject *found = PyList_New(0);
    if (found == NULL)
        return NULL;
    const unsigned char *block = (const unsigned char *)PyBytes_AS_STRING(args[0]);
    enum verdict verdict = find(block, block + PyBytes_GET_SIZE(args[0]), args[1], most, largest, found);
    if (verdict == PLAIN)
        return found;
    Py_DECREF(found);
    if (verdict == FAILED)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *place(PyObject *Py_UNUSED(module), PyObject *name)
{
    if (!PyBytes_CheckExact(name) || PyBytes_GET_SIZE(name) == 0) {
        PyErr_SetString(PyExc_TypeError, "expected bytes, at least one");
        return NULL;
    }
    return PyLong_FromSize_t(
        place_of((const unsigned char *)PyBytes_AS_STRING(name), (size_t)PyBytes_GET_SIZE(name)));
}

static PyMethodDef FUNCTIONS[] = {
    {"scan", (PyCFunction)(void (*)(void))scan, METH_FASTCALL, NULL},
    {"place", place, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static int set_slots(PyObject *module)
{
    return PyModule_AddIntConstant(module, "SLOTS", SLOTS);
}

static PyModuleDef_Slot EXECUTED[] = {
    {Py_mod_exec, set_slots},
    {0, NULL},
};

static struct PyModuleDef DEFINITION = {
    PyModuleDef_HEAD_INIT,
    .m_name = "scanner",
    .m_methods = FUNCTIONS,
    .m_slots = EXECUTED,
};

PyMODINIT_FUNC PyInit_scanner(void)
{
    return PyModuleDef_Init(&DEFINITION);
}
